// Drives dynamolock for leasehold's benchmarks.
//
//	driver cycle   URL TABLE KEY           acquires and releases once
//	driver refused URL TABLE KEY DIRECT    tries once while another client, at DIRECT, holds it
//	driver skipped URL TABLE KEY DIRECT    the same, with FailIfLocked
//	driver drive   URL TABLE SETTINGS      jobs on standard input, as src/drive/work.rs says
//
// All settings are the package's defaults, unless SETTINGS say otherwise.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"cirello.io/dynamolock/v2"
	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Settings are named as in the other drivers. What is absent is the package's default.
type Settings struct {
	LeaseMs     int64 `json:"lease_ms"`
	HeartbeatMs int64 `json:"heartbeat_ms"`
	PollMs      int64 `json:"poll_ms"`
	WaitMs      int64 `json:"wait_ms"`
	Connections int   `json:"connections"`
	Each        bool  `json:"each"`
	Skip        bool  `json:"skip"`
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (s Settings) client(url, table string) (*dynamolock.Client, error) {
	options := dynamodb.Options{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(url),
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
	}
	if s.Connections > 0 {
		options.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = s.Connections, s.Connections
		})
	}
	own := []dynamolock.ClientOption{dynamolock.WithOwnerName(rand.Text())}
	if s.LeaseMs > 0 {
		own = append(own, dynamolock.WithLeaseDuration(millis(s.LeaseMs)))
	}
	if s.HeartbeatMs > 0 {
		own = append(own, dynamolock.WithHeartbeatPeriod(millis(s.HeartbeatMs)))
	}
	return dynamolock.New(dynamodb.New(options), table, own...)
}

func (s Settings) acquire(locks *dynamolock.Client, key string) (*dynamolock.Lock, error) {
	var options []dynamolock.AcquireLockOption
	if s.PollMs > 0 {
		options = append(options, dynamolock.WithRefreshPeriod(millis(s.PollMs)))
	}
	if s.WaitMs > 0 {
		options = append(options, dynamolock.WithAdditionalTimeToWaitForLock(millis(s.WaitMs)))
	}
	if s.Skip {
		options = append(options, dynamolock.FailIfLocked())
	}
	return locks.AcquireLockWithContext(context.Background(), key, options...)
}

func release(locks *dynamolock.Client, lock *dynamolock.Lock) error {
	released, err := locks.ReleaseLockWithContext(context.Background(), lock)
	if err == nil && !released {
		err = errors.New("not ours to release")
	}
	return err
}

// --- jobs ---

// Job is one line of standard input.
type Job struct {
	Key         string `json:"key"`
	Keys        int    `json:"keys"`
	Tasks       int    `json:"tasks"`
	Rounds      int    `json:"rounds"`
	HoldUs      int64  `json:"hold_us"`
	HoldStepUs  int64  `json:"hold_step_us"`
	StartNs     int64  `json:"start_ns"`
	StartStepUs int64  `json:"start_step_us"`
	AtOnce      int    `json:"at_once"`
}

// Log keeps events, so that writing them takes nothing from what is measured.
type Log struct {
	guard sync.Mutex
	kept  []string
}

func (l *Log) add(format string, values ...any) {
	line := fmt.Sprintf(format, values...)
	l.guard.Lock()
	defer l.guard.Unlock()
	l.kept = append(l.kept, line)
}

func (l *Log) flush() {
	l.guard.Lock()
	defer l.guard.Unlock()
	if len(l.kept) > 0 {
		fmt.Println(strings.Join(l.kept, "\n"))
		l.kept = nil
	}
}

// Nanoseconds of CLOCK_MONOTONIC, which Go's own clock does not tell.
func now() int64 {
	const clockMonotonic = 1
	var at syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&at)), 0)
	return at.Nano()
}

func work(s Settings, job Job, task int, locks *dynamolock.Client, log *Log) {
	key := job.Key
	if job.Keys > 1 {
		key = fmt.Sprintf("%s/%d", job.Key, task%job.Keys)
	}
	hold := time.Duration(job.HoldUs+int64(task)*job.HoldStepUs) * time.Microsecond
	time.Sleep(time.Duration(job.StartNs + int64(task)*job.StartStepUs*1_000 - now()))
	for round := range job.Rounds {
		asked := now()
		failed := func(err error) {
			log.add("f %d %d %d %d %s", task, round, asked, now(), strings.ReplaceAll(err.Error(), "\n", " "))
		}
		lock, err := s.acquire(locks, key)
		if err != nil {
			failed(err)
			continue
		}
		log.add("g %d %d %d %d", task, round, asked, now())
		if job.HoldUs < 0 {
			// Its client keeps it.
			return
		}
		time.Sleep(hold)
		letting := now()
		if err := release(locks, lock); err != nil {
			failed(err)
			continue
		}
		log.add("r %d %d %d %d", task, round, letting, now())
	}
}

func run(s Settings, job Job, lockers []*dynamolock.Client, log *Log) {
	todo := make(chan int)
	var workers sync.WaitGroup
	places := job.AtOnce
	if places == 0 {
		places = job.Tasks
	}
	for range places {
		workers.Go(func() {
			for task := range todo {
				work(s, job, task, lockers[task%len(lockers)], log)
			}
		})
	}
	for task := range job.Tasks {
		todo <- task
	}
	close(todo)
	workers.Wait()
	log.add("done")
	log.flush()
}

func drive(url, table, settings string) error {
	var s Settings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return err
	}
	var lockers []*dynamolock.Client
	grow := func(wanted int) error {
		for len(lockers) < wanted {
			locks, err := s.client(url, table)
			if err != nil {
				return err
			}
			lockers = append(lockers, locks)
		}
		return nil
	}
	if err := grow(1); err != nil {
		return err
	}
	log := &Log{}
	go func() {
		for range time.Tick(250 * time.Millisecond) {
			log.flush()
		}
	}()
	log.add("ready")
	log.flush()
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var job Job
		if err := json.Unmarshal(input.Bytes(), &job); err != nil {
			return err
		}
		if s.Each {
			if err := grow(job.Tasks); err != nil {
				return err
			}
		}
		// Beside this loop, so that the end of standard input is seen at once.
		go run(s, job, lockers, log)
	}
	return input.Err()
}

// --- single calls ---

func cycle(url, table, key string) error {
	locks, err := Settings{}.client(url, table)
	if err != nil {
		return err
	}
	lock, err := Settings{}.acquire(locks, key)
	if err != nil {
		return err
	}
	return release(locks, lock)
}

func refused(s Settings, url, table, key, direct string) error {
	holder, err := Settings{}.client(direct, table)
	if err != nil {
		return err
	}
	held, err := Settings{}.acquire(holder, key)
	if err != nil {
		return err
	}
	locks, err := s.client(url, table)
	if err != nil {
		return err
	}
	var expected *dynamolock.LockNotGrantedError
	if _, err = s.acquire(locks, key); err == nil {
		return errors.New("acquired a lock that is held")
	} else if !errors.As(err, &expected) {
		return err
	}
	return release(holder, held)
}

func main() {
	args := os.Args[1:]
	var err error
	switch args[0] {
	case "cycle":
		err = cycle(args[1], args[2], args[3])
	case "refused":
		err = refused(Settings{}, args[1], args[2], args[3], args[4])
	case "skipped":
		err = refused(Settings{Skip: true}, args[1], args[2], args[3], args[4])
	case "drive":
		err = drive(args[1], args[2], args[3])
	default:
		err = fmt.Errorf("no mode is called %q", args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
