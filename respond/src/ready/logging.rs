//! Whether what happened will have been written down: the account's trails, its networks, its detection, its logs.

use acquire::aws::cloudtrail::{CloudTrail, Trail, TrailStatus};
use acquire::aws::ec2::Ec2;
use acquire::aws::eks::Eks;
use acquire::aws::guardduty::GuardDuty;
use acquire::aws::log_groups::LogGroups;
use acquire::aws::query_logs::{LoadBalancers, Resolver};
use acquire::aws::{Answered, Raw};
use serde_json::Value;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::Probe;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD10",
        version: 1,
        severity: Severity::Critical,
        title: "CloudTrail writes the management events of every region, now",
        scope: "region",
        tested: "CloudTrail DescribeTrails, GetTrailStatus and GetEventSelectors: a trail of all regions logs, holds management \
                 events, has no delivery error, and delivered within the hour",
        remediation: "make a trail of all regions with management events, and start its logging",
        prowler: &[
            "cloudtrail_multi_region_enabled",
            "cloudtrail_multi_region_enabled_logging_management_events",
        ],
        seconds: 60,
        drill: None,
        test: trail_logs,
    },
    Check {
        id: "RD11",
        version: 1,
        severity: Severity::High,
        title: "CloudTrail's files can be proved unchanged",
        scope: "trail",
        tested: "CloudTrail DescribeTrails and GetTrailStatus: digest files are on, and the last was delivered within two hours \
                 and without error",
        remediation: "aws cloudtrail update-trail --enable-log-file-validation; `exhibit acquire cloud-logs` then verifies the chain",
        prowler: &["cloudtrail_log_file_validation_enabled"],
        seconds: 60,
        drill: None,
        test: digests,
    },
    Check {
        id: "RD12",
        version: 1,
        severity: Severity::Medium,
        title: "reading and writing of the buckets that matter most is in CloudTrail",
        scope: "bucket",
        tested: "CloudTrail GetEventSelectors: a data resource of some logging trail covers each bucket of `ready.crown_buckets`, for \
                 reading and writing",
        remediation: "add the bucket's objects to the trail's data events",
        prowler: &["cloudtrail_s3_dataevents_read_enabled", "cloudtrail_s3_dataevents_write_enabled"],
        seconds: 60,
        drill: None,
        test: data_events,
    },
    Check {
        id: "RD13",
        version: 1,
        severity: Severity::High,
        title: "the traffic of every VPC is recorded",
        scope: "vpc",
        tested: "EC2 DescribeVpcs and DescribeFlowLogs: each VPC has an active flow log of ALL or REJECT and ACCEPT traffic whose \
                 delivery has not failed",
        remediation: "aws ec2 create-flow-logs for the VPC, traffic type ALL",
        prowler: &["vpc_flow_logs_enabled"],
        seconds: 60,
        drill: None,
        test: flow_logs,
    },
    Check {
        id: "RD14",
        version: 1,
        severity: Severity::High,
        title: "GuardDuty watches the region and tells within a quarter of an hour",
        scope: "region",
        tested: "GuardDuty ListDetectors and GetDetector: one is ENABLED; a publishing frequency above fifteen minutes is a warning",
        remediation: "enable GuardDuty in the region; set its findings to be published every fifteen minutes",
        prowler: &["guardduty_is_enabled"],
        seconds: 60,
        drill: None,
        test: guardduty,
    },
    Check {
        id: "RD15",
        version: 1,
        severity: Severity::Medium,
        title: "every EKS cluster keeps all logs of its control plane",
        scope: "cluster",
        tested: "EKS ListClusters and DescribeCluster: api, audit, authenticator, controllerManager and scheduler are on",
        remediation: "aws eks update-cluster-config --logging for all five kinds",
        prowler: &["eks_control_plane_logging_all_types_enabled"],
        seconds: 60,
        drill: None,
        test: clusters,
    },
    Check {
        id: "RD16",
        version: 1,
        severity: Severity::Medium,
        title: "names that are asked for and requests to load balancers are logged",
        scope: "vpc, load balancer",
        tested: "Route 53 Resolver ListResolverQueryLogConfigAssociations: each VPC of the region is in an active one; \
                 Elastic Load Balancing DescribeLoadBalancerAttributes: access logs of application and network load balancers are on",
        remediation: "associate the VPC with a query log configuration; turn access_logs.s3 on",
        prowler: &["elbv2_logging_enabled"],
        seconds: 60,
        drill: None,
        test: query_logs,
    },
    Check {
        id: "RD17",
        version: 1,
        severity: Severity::Medium,
        title: "log groups keep what is in them long enough",
        scope: "log group",
        tested: "CloudWatch Logs DescribeLogGroups: retention is never, or at least `ready.log_retention_days`",
        remediation: "aws logs put-retention-policy for the group",
        prowler: &["cloudwatch_log_group_retention_policy_specific_days_enabled"],
        seconds: 60,
        drill: None,
        test: retention,
    },
];

/// The kinds of logs that a control plane of EKS has.
const CONTROL_PLANE: [&str; 5] = ["api", "audit", "authenticator", "controllerManager", "scheduler"];

/// The trails, each with how it does, and the answers that say so.
struct Trails {
    cloudtrail: CloudTrail,
    all: Vec<(Trail, TrailStatus)>,
    raw: Vec<Raw>,
}

fn trails(probe: &Probe) -> Result<Trails, Unable> {
    let connection = probe.aws()?;
    probe.caller()?;
    let cloudtrail = CloudTrail::new(connection)?;
    let Answered { value, mut raw } = cloudtrail.describe_trails()?;
    let mut trails = Vec::new();
    for trail in value {
        let status = cloudtrail.status(&trail)?;
        raw.extend(status.raw);
        trails.push((trail, status.value));
    }
    Ok(Trails { cloudtrail, all: trails, raw })
}

fn trail_logs(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let Trails { cloudtrail, all: trails, mut raw } = trails(probe)?;
    let expected = "a trail of all regions logs management events, delivered within the hour";
    let now = probe.now();
    let mut seen = Vec::new();
    let mut status = Status::Fail;
    for (trail, doing) in &trails {
        let mut wrong = Vec::new();
        if !trail.is_multi_region {
            wrong.push("is of one region only".to_owned());
        }
        if !doing.is_logging {
            wrong.push("does not log".to_owned());
        }
        if !doing.delivery_error.is_empty() {
            wrong.push(format!("failed to deliver: {}", doing.delivery_error));
        }
        let selectors = cloudtrail.event_selectors(trail)?;
        raw.extend(selectors.raw);
        if !has_management_events(&selectors.value) {
            wrong.push("leaves management events out".to_owned());
        }
        let late = match doing.delivered {
            None => Some("has not delivered yet".to_owned()),
            Some(at) if now.saturating_sub(at as i64) > 3600 => {
                Some(format!("delivered last {} minutes ago", now.saturating_sub(at as i64) / 60))
            }
            Some(_) => None,
        };
        match (wrong.is_empty(), late) {
            (true, None) => {
                status = Status::Pass;
                seen = vec![format!("{} logs, delivered within the hour", trail.name)];
                break;
            }
            // An account where nothing happens delivers nothing either.
            (true, Some(late)) => {
                status = Status::Warn;
                seen.push(format!("{} logs, but {late}", trail.name));
            }
            (false, _) => seen.push(format!("{} {}", trail.name, wrong.join(", "))),
        }
    }
    let seen = if seen.is_empty() { "there is no trail".to_owned() } else { seen.join("; ") };
    Ok(vec![Finding::new(probe.region_scope()?, status, seen, expected).with_answers(&raw)])
}

/// Whether selectors of either kind hold management events, reading and writing.
fn has_management_events(selectors: &Value) -> bool {
    let list = |name: &str| selectors.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let plain = list("EventSelectors").iter().any(|selector| {
        selector.get("IncludeManagementEvents").and_then(Value::as_bool) == Some(true)
            && selector.get("ReadWriteType").and_then(Value::as_str).is_none_or(|kind| kind == "All")
    });
    plain || list("AdvancedEventSelectors").iter().any(|selector| fields(selector, "Management").is_some())
}

/// The fields of an advanced selector of a category.
fn fields(selector: &Value, category: &str) -> Option<Vec<Value>> {
    let fields = selector.get("FieldSelectors").and_then(Value::as_array)?;
    let is_it = fields.iter().any(|field| {
        field.get("Field").and_then(Value::as_str) == Some("eventCategory")
            && field
                .get("Equals")
                .and_then(Value::as_array)
                .is_some_and(|equals| equals.iter().any(|value| value.as_str() == Some(category)))
    });
    // A selector of reading or writing alone is not all.
    let is_cut = fields.iter().any(|field| field.get("Field").and_then(Value::as_str) == Some("readOnly"));
    (is_it && !is_cut).then(|| fields.clone())
}

fn digests(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let Trails { all: trails, raw, .. } = trails(probe)?;
    let expected = "digest files are on, the last within two hours";
    if trails.is_empty() {
        return Ok(vec![
            Finding::of(probe.region_scope()?, false, "there is no trail", expected).with_answers(&raw),
        ]);
    }
    let now = probe.now();
    let each = trails.iter().map(|(trail, doing)| {
        let (status, seen) = match (trail.has_digests, doing.digest_error.is_empty(), doing.digest_delivered)
        {
            (false, _, _) => (Status::Fail, "digest files are off".to_owned()),
            (true, false, _) => (Status::Fail, format!("the last digest failed: {}", doing.digest_error)),
            (true, true, None) => {
                (Status::Warn, "digest files are on; none has been delivered yet".to_owned())
            }
            (true, true, Some(at)) if now.saturating_sub(at as i64) > 7200 => {
                let minutes = now.saturating_sub(at as i64) / 60;
                (Status::Fail, format!("the last digest came {minutes} minutes ago"))
            }
            (true, true, Some(_)) => (Status::Pass, "digest files are on, the last is fresh".to_owned()),
        };
        Finding::new(&trail.name, status, seen, expected).with_answers(&raw)
    });
    Ok(each.collect())
}

fn data_events(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let buckets = &probe.settings.ready.crown_buckets;
    if buckets.is_empty() {
        return Err(Unable::none("the settings name no buckets that matter most (ready.crown_buckets)"));
    }
    let Trails { cloudtrail, all: trails, mut raw } = trails(probe)?;
    let mut selectors = Vec::new();
    for (trail, _) in trails.iter().filter(|(_, doing)| doing.is_logging) {
        let answer = cloudtrail.event_selectors(trail)?;
        raw.extend(answer.raw);
        selectors.push((trail.name.clone(), answer.value));
    }
    let each = buckets.iter().map(|bucket| {
        let by = selectors.iter().find(|(_, selectors)| covers(selectors, bucket));
        let seen = match by {
            Some((trail, _)) => format!("{trail} holds what is read and written there"),
            None => "no trail that logs holds all of what is read and written there".to_owned(),
        };
        Finding::of(bucket, by.is_some(), seen, "data events for reading and writing are in a trail")
            .with_answers(&raw)
    });
    Ok(each.collect())
}

/// Whether selectors hold all data events of a bucket's objects.
fn covers(selectors: &Value, bucket: &str) -> bool {
    // `arn:aws:s3` alone stands for every bucket; else an ARN that ends before the objects' names.
    let is_it = |value: &str| {
        let name = value.splitn(6, ':').nth(5);
        value == "arn:aws:s3" || name.is_some_and(|name| name == format!("{bucket}/"))
    };
    let list = |name: &str| selectors.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let plain = list("EventSelectors").iter().any(|selector| {
        let all = selector.get("ReadWriteType").and_then(Value::as_str).is_none_or(|kind| kind == "All");
        let resources = selector.get("DataResources").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut values = resources
            .iter()
            .filter(|resource| resource.get("Type").and_then(Value::as_str) == Some("AWS::S3::Object"))
            .filter_map(|resource| resource.get("Values").and_then(Value::as_array))
            .flatten();
        all && values.any(|value| value.as_str().is_some_and(is_it))
    });
    let advanced = list("AdvancedEventSelectors").iter().any(|selector| {
        let Some(fields) = fields(selector, "Data") else { return false };
        let of =
            |name: &str| fields.iter().find(|field| field.get("Field").and_then(Value::as_str) == Some(name));
        let has = |field: Option<&Value>, key: &str, wanted: &dyn Fn(&str) -> bool| {
            let values = field.and_then(|field| field.get(key)).and_then(Value::as_array);
            values.is_some_and(|values| values.iter().any(|value| value.as_str().is_some_and(wanted)))
        };
        let of_objects = has(of("resources.type"), "Equals", &|kind| kind == "AWS::S3::Object");
        let arn = of("resources.ARN");
        // Names of events, users or anything else narrow it down.
        let known = ["eventCategory", "resources.type", "resources.ARN"];
        let is_plain = fields.iter().all(|field| {
            field.get("Field").and_then(Value::as_str).is_some_and(|name| known.contains(&name))
        });
        of_objects && is_plain && (arn.is_none() || has(arn, "StartsWith", &is_it))
    });
    plain || advanced
}

fn flow_logs(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let connection = probe.aws()?;
    probe.caller()?;
    let ec2 = Ec2::new(connection)?;
    let vpcs = ec2.vpcs()?;
    if vpcs.value.is_empty() {
        return Err(Unable::none("the region has no VPC"));
    }
    let logs = ec2.flow_logs()?;
    let raw: Vec<Raw> = vpcs.raw.into_iter().chain(logs.raw).collect();
    let each = vpcs.value.iter().map(|vpc| {
        let of_it: Vec<_> = logs.value.iter().filter(|log| log.resource == *vpc).collect();
        let active = |traffic: &str| {
            of_it
                .iter()
                .any(|log| log.status == "ACTIVE" && log.traffic == traffic && log.delivery != "FAILED")
        };
        let holds = active("ALL") || (active("ACCEPT") && active("REJECT"));
        let seen = match of_it.as_slice() {
            [] => "no flow log".to_owned(),
            some => some
                .iter()
                .map(|log| format!("{} {} {} delivery {}", log.id, log.status, log.traffic, log.delivery))
                .collect::<Vec<_>>()
                .join("; "),
        };
        Finding::of(vpc, holds, seen, "an active flow log of all traffic").with_answers(&raw)
    });
    Ok(each.collect())
}

fn guardduty(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let connection = probe.aws()?;
    let scope = probe.region_scope()?;
    let guardduty = GuardDuty::new(connection)?;
    let Answered { value: ids, mut raw } = guardduty.detectors()?;
    let expected = "a detector is enabled, findings come every fifteen minutes";
    let mut detectors = Vec::new();
    for id in &ids {
        let one = guardduty.detector(id)?;
        raw.extend(one.raw);
        detectors.push(one.value);
    }
    let enabled = detectors.iter().find(|detector| detector.status == "ENABLED");
    let (status, seen) = match (enabled, detectors.first()) {
        (Some(one), _) if one.publishes_every == "FIFTEEN_MINUTES" => {
            (Status::Pass, format!("{} is enabled; features: {}", one.id, one.features.join(", ")))
        }
        (Some(one), _) => {
            let every = &one.publishes_every;
            (Status::Warn, format!("{} is enabled; updated findings come {every}", one.id))
        }
        (None, Some(one)) => (Status::Fail, format!("{} is {}", one.id, one.status)),
        (None, None) => (Status::Fail, "there is no detector".to_owned()),
    };
    Ok(vec![Finding::new(scope, status, seen, expected).with_answers(&raw)])
}

fn clusters(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let connection = probe.aws()?;
    probe.caller()?;
    let eks = Eks::new(connection)?;
    let names = eks.clusters()?;
    if names.value.is_empty() {
        return Err(Unable::none("the region has no EKS cluster"));
    }
    let mut found = Vec::new();
    for name in &names.value {
        let kept = eks.kept_logs(name)?;
        let off: Vec<&str> =
            CONTROL_PLANE.into_iter().filter(|kind| !kept.value.iter().any(|on| on == kind)).collect();
        let seen =
            if off.is_empty() { "all five are on".to_owned() } else { format!("off: {}", off.join(", ")) };
        let expected = "all five kinds of logs of the control plane are on";
        found.push(Finding::of(name, off.is_empty(), seen, expected).with_answers(&kept.raw));
    }
    Ok(found)
}

fn query_logs(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let connection = probe.aws()?;
    probe.caller()?;
    let vpcs = Ec2::new(connection)?.vpcs()?;
    let logged = Resolver::new(connection)?.logged_vpcs()?;
    let mut found: Vec<Finding> = vpcs
        .value
        .iter()
        .map(|vpc| {
            let holds = logged.value.contains(vpc);
            let seen = if holds { "its queries are logged" } else { "no active query log has it" };
            Finding::of(vpc, holds, seen, "queries for names are logged").with_answers(&logged.raw)
        })
        .collect();
    let balancers = LoadBalancers::new(connection)?;
    // A gateway load balancer has no access log.
    for one in balancers.all()?.value.iter().filter(|one| one.kind != "gateway") {
        let answer = balancers.is_logged(&one.arn)?;
        let seen = if answer.value { "access logs are on" } else { "access logs are off" };
        found
            .push(Finding::of(&one.name, answer.value, seen, "access logs are on").with_answers(&answer.raw));
    }
    if found.is_empty() {
        return Err(Unable::none("the region has neither VPC nor load balancer"));
    }
    Ok(found)
}

fn retention(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let connection = probe.aws()?;
    let scope = probe.region_scope()?;
    let groups = LogGroups::new(connection)?.all()?;
    if groups.value.is_empty() {
        return Err(Unable::none("the region has no log group"));
    }
    let wanted = probe.settings.ready.log_retention_days;
    let expected = format!("{wanted} days at least");
    let short = groups.value.iter().filter(|group| group.days.is_some_and(|days| days < wanted));
    let found: Vec<Finding> = short
        .map(|group| {
            let seen = format!("kept for {} days", group.days.unwrap_or_default());
            Finding::of(&group.name, false, seen, &expected).with_answers(&groups.raw)
        })
        .collect();
    if found.is_empty() {
        let seen = format!("all {} groups keep what is in them long enough", groups.value.len());
        return Ok(vec![Finding::of(scope, true, seen, expected).with_answers(&groups.raw)]);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_events_of_another_bucket_or_of_writing_alone_do_not_cover() {
        let plain = |kind: &str, value: &str| {
            json!({"EventSelectors": [{"ReadWriteType": kind, "DataResources":
                [{"Type": "AWS::S3::Object", "Values": [value]}]}]})
        };
        assert!(covers(&plain("All", "arn:aws:s3:::crown/"), "crown"));
        assert!(covers(&plain("All", "arn:aws:s3"), "crown"));
        assert!(!covers(&plain("WriteOnly", "arn:aws:s3:::crown/"), "crown"));
        assert!(!covers(&plain("All", "arn:aws:s3:::crown/part"), "crown"));
        assert!(!covers(&plain("All", "arn:aws:s3:::other/"), "crown"));
        let advanced = |more: Value| {
            let mut fields = vec![
                json!({"Field": "eventCategory", "Equals": ["Data"]}),
                json!({"Field": "resources.type", "Equals": ["AWS::S3::Object"]}),
            ];
            fields.extend(more.as_array().cloned().unwrap_or_default());
            json!({"AdvancedEventSelectors": [{"FieldSelectors": fields}]})
        };
        assert!(covers(&advanced(json!([])), "crown"));
        let arn = json!([{"Field": "resources.ARN", "StartsWith": ["arn:aws:s3:::crown/"]}]);
        assert!(covers(&advanced(arn), "crown"));
        assert!(!covers(&advanced(json!([{"Field": "readOnly", "Equals": ["false"]}])), "crown"));
        assert!(!covers(&advanced(json!([{"Field": "eventName", "Equals": ["PutObject"]}])), "crown"));
    }

    #[test]
    fn management_events_of_writing_alone_are_not_all() {
        let plain = |kind: &str| json!({"EventSelectors": [{"ReadWriteType": kind, "IncludeManagementEvents": true}]});
        assert!(has_management_events(&plain("All")));
        assert!(!has_management_events(&plain("WriteOnly")));
        assert!(!has_management_events(&json!({"EventSelectors": []})));
        let advanced = json!({"AdvancedEventSelectors": [{"FieldSelectors":
            [{"Field": "eventCategory", "Equals": ["Management"]}]}]});
        assert!(has_management_events(&advanced));
    }
}
