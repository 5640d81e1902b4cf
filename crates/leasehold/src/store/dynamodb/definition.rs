//! The lock table and its permissions, as definitions for other tools.

use std::fmt;

/// A lock table as code for infrastructure tools.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Definition<'a>(&'a str);

/// The definition of a lock table of this name or ARN, for [`Definition::cloud_formation`] and the
/// others.
pub fn definition(table: &str) -> Definition<'_> {
    Definition(table)
}

impl Definition<'_> {
    /// The name alone: an ARN ends with it.
    fn name(&self) -> &str {
        match self.0.split_once(":table/") {
            Some((_, name)) if self.0.starts_with("arn:") => name,
            _ => self.0,
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
        - AttributeName: LockKey
          AttributeType: S
      KeySchema:
        - AttributeName: LockKey
          KeyType: HASH
      TimeToLiveSpecification:
        AttributeName: ExpireInUnixSeconds
        Enabled: true
",
            self.name()
        )
    }

    /// As Terraform.
    pub fn terraform(&self) -> impl fmt::Display + use<> {
        format!(
            r#"resource "aws_dynamodb_table" "locks" {{
  name         = "{}"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "LockKey"

  attribute {{
    name = "LockKey"
    type = "S"
  }}

  ttl {{
    attribute_name = "ExpireInUnixSeconds"
    enabled        = true
  }}
}}
"#,
            self.name()
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
        let arn = if self.0.starts_with("arn:") {
            self.0.to_owned()
        } else {
            format!("arn:aws:dynamodb:REGION:ACCOUNT:table/{}", self.0)
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
        let statements = [
            statement("Locks", locks),
            statement("List", r#""dynamodb:Scan""#),
            statement("Fence", r#""dynamodb:ConditionCheckItem""#),
        ];
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
  partitionKey: {{ name: 'LockKey', type: dynamodb.AttributeType.STRING }},
  billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
  timeToLiveAttribute: 'ExpireInUnixSeconds',
  removalPolicy: cdk.RemovalPolicy.RETAIN,
}});
",
            self.name()
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
}
