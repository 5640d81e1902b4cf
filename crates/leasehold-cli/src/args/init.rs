//! The arguments of `init`.

use clap::{Args, ValueEnum};

use super::{StoreArg, VerbosityArgs};

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Print the table's definition for this tool, or the policy for its users, and create nothing
    ///
    /// Without --store, the table's name is `locks`. REGION and ACCOUNT in a policy are yours to replace.
    #[arg(long, value_name = "TOOL", value_enum)]
    pub(crate) print: Option<Tool>,

    /// For a global table of multi-Region strong consistency: without TTL; says how its Regions are added
    ///
    /// As the store parameter `mrsc=true`, which every later command needs.
    #[arg(long)]
    pub(crate) mrsc: bool,

    #[command(flatten)]
    pub(crate) store: StoreArg,

    #[command(flatten)]
    pub(crate) verbosity: VerbosityArgs,
}

/// A tool that creates tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Tool {
    /// A CloudFormation template
    Cloudformation,
    /// A Terraform resource
    Terraform,
    /// The AWS CDK, in TypeScript
    Cdk,
    /// The least IAM policy for locks in the table
    Iam,
}
