//! The lock table and its permissions, as definitions for other tools.

use std::fmt;

use super::shape::{Sort, SortValue, TableShape};

/// A lock table as code for infrastructure tools.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Definition<'a> {
    table: &'a str,
    shape: TableShape,
}

/// The definition of a lock table of this name or ARN, for [`Definition::cloud_formation`] and the
/// others. [`Definition::with_shape`] gives it other keys.
pub fn definition(table: &str) -> Definition<'_> {
    Definition {
        table,
        shape: TableShape::default(),
    }
}

impl Definition<'_> {
    /// The same table in this shape.
    #[must_use]
    pub fn with_shape(mut self, shape: TableShape) -> Self {
        self.shape = shape;
        self
    }

    /// The name alone: an ARN ends with it.
    fn name(&self) -> &str {
        match self.table.split_once(":table/") {
            Some((_, name)) if self.table.starts_with("arn:") => name,
            _ => self.table,
        }
    }

    /// One text for each key, from its name and its role.
    fn keys(&self, text: impl Fn(&str, &str) -> String) -> String {
        let sort = self.shape.sort_name();
        let keys = std::iter::once((self.shape.partition_name(), "HASH"));
        keys.chain(sort.map(|sort| (sort, "RANGE")))
            .map(|(name, role)| text(name, role))
            .collect()
    }

    /// The part about TTL, which a table with multi-Region strong consistency lacks.
    fn ttl(&self, text: impl Fn(&str) -> String) -> String {
        match self.shape.is_mrsc() {
            true => String::new(),
            false => text(self.shape.ttl_name()),
        }
    }

    /// As a CloudFormation template.
    pub fn cloud_formation(&self) -> impl fmt::Display + use<> {
        format!(
            "Resources:
  LockTable:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      TableName: {}
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
{}      KeySchema:
{}{}",
            self.name(),
            self.keys(|name, _| format!(
                "        - AttributeName: {name}\n          AttributeType: S\n"
            )),
            self.keys(|name, role| format!(
                "        - AttributeName: {name}\n          KeyType: {role}\n"
            )),
            self.ttl(|ttl| format!(
                "      TimeToLiveSpecification:\n        AttributeName: {ttl}\n        Enabled: true\n"
            )),
        )
    }

    /// As Terraform.
    pub fn terraform(&self) -> impl fmt::Display + use<> {
        format!(
            r#"resource "aws_dynamodb_table" "locks" {{
  name         = "{}"
  billing_mode = "PAY_PER_REQUEST"
{}
{}{}}}
"#,
            self.name(),
            self.keys(|name, role| match role {
                "HASH" => format!("  hash_key     = \"{name}\"\n"),
                _ => format!("  range_key    = \"{name}\"\n"),
            }),
            self.keys(|name, _| format!(
                "  attribute {{\n    name = \"{name}\"\n    type = \"S\"\n  }}\n\n"
            )),
            self.ttl(|ttl| format!(
                "  ttl {{\n    attribute_name = \"{ttl}\"\n    enabled        = true\n  }}\n"
            )),
        )
    }

    /// The least IAM policy for locks in the table, as JSON. `REGION` and `ACCOUNT` in it are to be replaced, unless
    /// the table was named by its ARN.
    ///
    /// The statement `Locks` is for clients, `List` for listings, `Fence` for transactions with
    /// [`DynamoDbStore::fence`](super::DynamoDbStore::fence). Creating the table needs more: see [`DynamoDbStore::create_table`](super::DynamoDbStore::create_table).
    ///
    /// # Examples
    ///
    /// ```
    /// use leasehold::store::dynamodb::definition;
    ///
    /// let policy = definition("locks").iam_policy().to_string();
    /// assert!(policy.contains("arn:aws:dynamodb:REGION:ACCOUNT:table/locks"));
    /// ```
    pub fn iam_policy(&self) -> impl fmt::Display + use<> {
        let arn = if self.table.starts_with("arn:") {
            self.table.to_owned()
        } else {
            format!("arn:aws:dynamodb:REGION:ACCOUNT:table/{}", self.table)
        };
        let statement = |id: &str, actions: &str| {
            format!(
                r#"    {{
      "Sid": "{id}",
      "Effect": "Allow",
      "Action": [{actions}],
      "Resource": "{arn}"
    }}"#
            )
        };
        let locks = r#""dynamodb:UpdateItem", "dynamodb:GetItem", "dynamodb:DeleteItem""#;
        let list = match self.shape.sort() {
            Some(Sort {
                value: SortValue::After(_),
                ..
            }) => r#""dynamodb:Scan", "dynamodb:Query""#,
            _ => r#""dynamodb:Scan""#,
        };
        let mut statements = vec![statement("Locks", locks), statement("List", list)];
        if !self.shape.is_mrsc() {
            statements.push(statement("Fence", r#""dynamodb:ConditionCheckItem""#));
        }
        format!(
            r#"{{
  "Version": "2012-10-17",
  "Statement": [
{}
  ]
}}
"#,
            statements.join(",\n")
        )
    }

    /// As the AWS CDK, in TypeScript.
    pub fn cdk(&self) -> impl fmt::Display + use<> {
        format!(
            r"new dynamodb.Table(this, 'LockTable', {{
  tableName: '{}',
{}  billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
{}  removalPolicy: cdk.RemovalPolicy.RETAIN,
}});
",
            self.name(),
            self.keys(|name, role| {
                let property = if role == "HASH" {
                    "partitionKey"
                } else {
                    "sortKey"
                };
                format!(
                    "  {property}: {{ name: '{name}', type: dynamodb.AttributeType.STRING }},\n"
                )
            }),
            self.ttl(|ttl| format!("  timeToLiveAttribute: '{ttl}',\n")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_gives_name_and_resource() {
        let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/locks";
        let definition = definition(arn);
        assert!(
            definition
                .cloud_formation()
                .to_string()
                .contains("TableName: locks\n")
        );
        let policy = definition.iam_policy().to_string();
        assert_eq!(policy.matches(arn).count(), 3, "{policy}");
    }

    #[test]
    fn every_definition_has_the_names_of_the_shape() {
        let shape = TableShape::default()
            .partition_key("PK")
            .sort_key("SK", "LOCK")
            .ttl("removeAt");
        let definition = definition("shared").with_shape(shape);
        for text in [
            definition.cloud_formation().to_string(),
            definition.terraform().to_string(),
            definition.cdk().to_string(),
        ] {
            for part in ["PK", "SK", "removeAt"] {
                assert!(text.contains(part), "{text}");
            }
            assert!(!text.contains("LockKey") && !text.contains("ExpireInUnixSeconds"));
        }
        let mrsc = TableShape::default().mrsc(true);
        let mrsc = definition.clone().with_shape(mrsc);
        for text in [
            mrsc.cloud_formation().to_string(),
            mrsc.terraform().to_string(),
            mrsc.cdk().to_string(),
            mrsc.iam_policy().to_string(),
        ] {
            for part in ["ExpireInUnixSeconds", "ToLive", "ttl", "ConditionCheck"] {
                assert!(!text.contains(part), "{text}");
            }
        }
        let queries = |definition: &Definition<'_>| {
            let policy = definition.iam_policy().to_string();
            policy.contains("dynamodb:Query")
        };
        assert!(!queries(&definition));
        let shape = TableShape::default().sort_key_after("SK", '/');
        assert!(queries(&definition.with_shape(shape)));
    }
}
