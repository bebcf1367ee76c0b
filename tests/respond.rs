//! Tests of the respond crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

#[path = "respond/alerts.rs"]
mod alerts;
#[path = "respond/bench.rs"]
mod bench;
#[path = "support/dockerd.rs"]
mod dockerd;
#[path = "respond/door.rs"]
mod door;
#[path = "respond/door_sns.rs"]
mod door_sns;
#[path = "respond/door_support.rs"]
mod door_support;
#[path = "respond/door_tls.rs"]
mod door_tls;
#[path = "respond/edr.rs"]
mod edr;
#[path = "support/edr_console/mod.rs"]
mod edr_console;
#[path = "respond/fake_service.rs"]
mod fake_service;
#[path = "support/http_client.rs"]
mod http_client;
#[path = "respond/isolate_aws.rs"]
mod isolate_aws;
#[path = "respond/isolate_docker.rs"]
mod isolate_docker;
#[path = "respond/isolate_host.rs"]
mod isolate_host;
#[path = "respond/isolate_k8s.rs"]
mod isolate_k8s;
#[path = "respond/jobs.rs"]
mod jobs;
#[path = "respond/jobs_approvals.rs"]
mod jobs_approvals;
#[path = "respond/jobs_leases.rs"]
mod jobs_leases;
#[path = "respond/kubernetes.rs"]
mod kubernetes;
#[path = "support/loopback.rs"]
mod loopback;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/netns.rs"]
mod netns;
#[path = "respond/ready.rs"]
mod ready;
#[path = "respond/ready_account.rs"]
mod ready_account;
#[path = "respond/ready_clouds.rs"]
mod ready_clouds;
#[path = "respond/ready_host.rs"]
mod ready_host;
#[path = "respond/ready_rules.rs"]
mod ready_rules;
#[path = "respond/rules.rs"]
mod rules;
#[path = "support/runc_box.rs"]
mod runc_box;
#[path = "respond/sns_sender.rs"]
mod sns_sender;
#[path = "respond/ssh.rs"]
mod ssh;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "respond/storms.rs"]
mod storms;
#[path = "support/test_authority.rs"]
mod test_authority;
