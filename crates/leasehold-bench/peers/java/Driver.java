import com.amazonaws.services.dynamodbv2.AcquireLockOptions;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBLockClient;
import com.amazonaws.services.dynamodbv2.AmazonDynamoDBLockClientOptions;
import com.amazonaws.services.dynamodbv2.LockItem;
import com.amazonaws.services.dynamodbv2.ReleaseLockOptions;
import com.amazonaws.services.dynamodbv2.model.LockCurrentlyUnavailableException;
import com.amazonaws.services.dynamodbv2.model.LockNotGrantedException;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.protocols.jsoncore.JsonNode;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;

/**
 * Drives AWS's Java client, dynamodb-lock-client, for leasehold's benchmarks.
 *
 * <pre>
 * java Driver cycle   URL TABLE KEY           acquires and releases once
 * java Driver refused URL TABLE KEY DIRECT    tries once while another client, at DIRECT, holds it
 * java Driver skipped URL TABLE KEY DIRECT    the same, with shouldSkipBlockingWait
 * java Driver drive   URL TABLE SETTINGS      jobs on standard input, as src/drive/work.rs says
 * </pre>
 *
 * All settings are the client's defaults, unless SETTINGS say otherwise. The background thread that sends heartbeats is
 * such a default.
 */
final class Driver {
  private final String url;
  private final String table;
  private final JsonNode settings;

  private Driver(String url, String table, JsonNode settings) {
    this.url = url;
    this.table = table;
    this.settings = settings;
  }

  // --- the client ---

  private Long number(String name) {
    return settings.field(name).map(value -> Long.parseLong(value.asNumber())).orElse(null);
  }

  private boolean flag(String name) {
    return settings.field(name).map(JsonNode::asBoolean).orElse(false);
  }

  private AmazonDynamoDBLockClient client() {
    var http = ApacheHttpClient.builder();
    if (number("connections") != null) http.maxConnections(number("connections").intValue());
    var credentials = StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test"));
    var requests =
        DynamoDbClient.builder()
            .endpointOverride(URI.create(url))
            .region(Region.EU_WEST_1)
            .credentialsProvider(credentials)
            .httpClientBuilder(http)
            .build();
    // Without an owner it would look up the name of this host.
    var options = AmazonDynamoDBLockClientOptions.builder(requests, table).withOwnerName(UUID.randomUUID().toString());
    if (number("lease_ms") != null) {
      options
          .withTimeUnit(TimeUnit.MILLISECONDS)
          .withLeaseDuration(number("lease_ms"))
          .withHeartbeatPeriod(number("heartbeat_ms"));
    }
    return new AmazonDynamoDBLockClient(options.build());
  }

  private LockItem acquire(AmazonDynamoDBLockClient locks, String key) throws InterruptedException {
    var options = AcquireLockOptions.builder(key).withTimeUnit(TimeUnit.MILLISECONDS);
    if (number("poll_ms") != null) options.withRefreshPeriod(number("poll_ms"));
    if (number("wait_ms") != null) options.withAdditionalTimeToWaitForLock(number("wait_ms"));
    if (flag("skip")) options.withShouldSkipBlockingWait(true);
    return locks.acquireLock(options.build());
  }

  private static void release(AmazonDynamoDBLockClient locks, LockItem lock) {
    // Not "best effort", or a failure would not be told.
    if (!locks.releaseLock(ReleaseLockOptions.builder(lock).withDeleteLock(true).withBestEffort(false).build())) {
      throw new IllegalStateException("not ours to release");
    }
  }

  // --- jobs ---

  private static final class Log {
    private List<String> kept = new ArrayList<>();

    synchronized void add(String line) {
      kept.add(line);
    }

    synchronized void flush() {
      if (kept.isEmpty()) return;
      System.out.println(String.join("\n", kept));
      System.out.flush();
      kept = new ArrayList<>();
    }
  }

  private record Job(
      String key, long keys, int tasks, long rounds, long holdUs, long holdStepUs, long startNs, long startStepUs, int atOnce) {
    static Job parse(String line) {
      var job = JsonNode.parser().parse(line).asObject();
      var n = (java.util.function.ToLongFunction<String>) name -> Long.parseLong(job.get(name).asNumber());
      return new Job(
          job.get("key").asString(),
          n.applyAsLong("keys"),
          (int) n.applyAsLong("tasks"),
          n.applyAsLong("rounds"),
          n.applyAsLong("hold_us"),
          n.applyAsLong("hold_step_us"),
          n.applyAsLong("start_ns"),
          n.applyAsLong("start_step_us"),
          (int) n.applyAsLong("at_once"));
    }

    String keyOf(int task) {
      return keys <= 1 ? key : key + "/" + task % keys;
    }
  }

  // On Linux this is CLOCK_MONOTONIC.
  private static long now() {
    return System.nanoTime();
  }

  private static void sleep(long nanos) {
    long end = now() + nanos;
    for (long left = nanos; left > 0; left = end - now()) LockSupport.parkNanos(left);
  }

  private void work(Job job, int task, AmazonDynamoDBLockClient locks, Log log) {
    String key = job.keyOf(task);
    sleep(job.startNs + task * job.startStepUs * 1_000 - now());
    for (long round = 0; round < job.rounds; round++) {
      String at = " " + task + " " + round + " ";
      long asked = now();
      try {
        LockItem lock = acquire(locks, key);
        log.add("g" + at + asked + " " + now());
        // Its client keeps it; no thread needs to wait for that.
        if (job.holdUs < 0) return;
        sleep((job.holdUs + task * job.holdStepUs) * 1_000);
        long letting = now();
        release(locks, lock);
        log.add("r" + at + letting + " " + now());
      } catch (Exception error) {
        String message = (error.getClass().getSimpleName() + ": " + error.getMessage()).replace('\n', ' ');
        log.add("f" + at + asked + " " + now() + " " + message);
      }
    }
  }

  private void run(Job job, List<AmazonDynamoDBLockClient> lockers, Log log) {
    var next = new AtomicInteger();
    var threads = new ArrayList<Thread>();
    for (int n = 0; n < (job.atOnce == 0 ? job.tasks : job.atOnce); n++) {
      threads.add(
          daemon(
              () -> {
                for (int task; (task = next.getAndIncrement()) < job.tasks; ) {
                  work(job, task, lockers.get(task % lockers.size()), log);
                }
              }));
    }
    try {
      for (Thread thread : threads) thread.join();
    } catch (InterruptedException end) {
      return;
    }
    log.add("done");
    log.flush();
  }

  private static Thread daemon(Runnable work) {
    var thread = new Thread(work);
    thread.setDaemon(true);
    thread.start();
    return thread;
  }

  private void drive() throws Exception {
    var lockers = new ArrayList<>(List.of(client()));
    var log = new Log();
    daemon(
        () -> {
          while (true) {
            sleep(250_000_000);
            log.flush();
          }
        });
    log.add("ready");
    log.flush();
    var input = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = input.readLine()) != null; ) {
      Job job = Job.parse(line);
      while (lockers.size() < (flag("each") ? job.tasks : 1)) lockers.add(client());
      // In a thread, so that the end of standard input is seen at once.
      daemon(() -> run(job, lockers, log));
    }
    // Without what the clients would do first, such as releasing.
    Runtime.getRuntime().halt(0);
  }

  // --- single calls ---

  private static Driver at(String url, String table, String settings) {
    return new Driver(url, table, JsonNode.parser().parse(settings));
  }

  private static void refused(Driver contender, Driver holder, String key) throws Exception {
    var holding = holder.client();
    LockItem held = holder.acquire(holding, key);
    try {
      contender.acquire(contender.client(), key);
      throw new IllegalStateException("acquired a lock that is held");
    } catch (LockNotGrantedException | LockCurrentlyUnavailableException expected) {
      release(holding, held);
    }
  }

  public static void main(String[] args) throws Exception {
    String mode = args[0];
    String url = args[1];
    String table = args[2];
    switch (mode) {
      case "cycle" -> {
        Driver driver = at(url, table, "{}");
        var locks = driver.client();
        release(locks, driver.acquire(locks, args[3]));
      }
      case "refused" -> refused(at(url, table, "{}"), at(args[4], table, "{}"), args[3]);
      case "skipped" -> refused(at(url, table, "{\"skip\":true}"), at(args[4], table, "{}"), args[3]);
      case "drive" -> at(url, table, args[3]).drive();
      default -> throw new IllegalArgumentException(mode);
    }
    // The threads that send heartbeats go on.
    Runtime.getRuntime().halt(0);
  }
}
