//! What EC2 would let be done, and which networks are recorded: asked before an incident, and nothing is changed.

use super::answer::Answered;
use super::ec2::Ec2;
use super::failure::Failure;
use super::request::Form;

/// A record of the traffic of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowLog {
    /// `fl-…`
    pub id: String,
    /// What it records: `vpc-…`, `subnet-…` or `eni-…`.
    pub resource: String,
    /// `ACTIVE`, if it does.
    pub status: String,
    /// `ACCEPT`, `REJECT` or `ALL`.
    pub traffic: String,
    /// `SUCCESS` or `FAILED`, and empty before the first writing.
    pub delivery: String,
}

impl Ec2 {
    /// The VPCs of the region.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] without `ec2:DescribeVpcs`.
    pub fn vpcs(&self) -> Result<Answered<Vec<String>>, Failure> {
        let found = self.list("DescribeVpcs", "", "vpcSet", Form::default())?;
        Ok(found.map(|vpcs| vpcs.iter().map(|vpc| vpc.string(&["vpcId"])).collect()))
    }

    /// The flow logs of the region.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] without `ec2:DescribeFlowLogs`.
    pub fn flow_logs(&self) -> Result<Answered<Vec<FlowLog>>, Failure> {
        let found = self.list("DescribeFlowLogs", "", "flowLogSet", Form::default())?;
        Ok(found.map(|logs| {
            let one = |log: &super::Element| FlowLog {
                id: log.string(&["flowLogId"]),
                resource: log.string(&["resourceId"]),
                status: log.string(&["flowLogStatus"]),
                traffic: log.string(&["trafficType"]),
                delivery: log.string(&["deliverLogsStatus"]),
            };
            logs.iter().map(one).collect()
        }))
    }

    /// How many snapshots the account has in the region.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] without `ec2:DescribeSnapshots`.
    pub fn count_own_snapshots(&self) -> Result<Answered<u64>, Failure> {
        let form = Form::default().with("Owner.1", "self");
        Ok(self.list("DescribeSnapshots", "", "snapshotSet", form)?.map(|found| found.len() as u64))
    }

    /// Whether a security group may be made in a VPC (asked with `DryRun`).
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] with the missing permission.
    pub fn may_create_security_group(&self, vpc: &str) -> Result<(), Failure> {
        let form = Form::default()
            .with("GroupName", "exhibit-isolation-dry-run")
            .with("GroupDescription", "whether this may be made")
            .with("VpcId", vpc);
        self.may("CreateSecurityGroup", vpc, form)
    }

    /// Whether the security groups of an interface may be set, to what they are (asked with `DryRun`).
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] with the missing permission.
    pub fn may_modify_interface(&self, interface: &str, groups: &[&str]) -> Result<(), Failure> {
        let form = Form::default()
            .with("NetworkInterfaceId", interface)
            .list("SecurityGroupId", groups.iter().copied());
        self.may("ModifyNetworkInterfaceAttribute", interface, form)
    }

    /// Whether a snapshot of a volume may be made with our tags (asked with `DryRun`).
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] with the missing permission.
    pub fn may_snapshot(&self, volume: &str) -> Result<(), Failure> {
        let tags = [("exhibit:made-by".to_owned(), "exhibit ready".to_owned())];
        self.may_create_snapshot(volume, &tags)
    }
}
