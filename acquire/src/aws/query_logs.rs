//! Route 53 Resolver and load balancers: whether names that are asked for and requests that come in are written down.

use serde_json::{Map, Value};

use super::answer::{Answered, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::Failure;
use super::request::{Call, Caller, Form};

static RESOLVER: Service = Service {
    name: "Route 53 Resolver",
    id: "Route53Resolver",
    host: "route53resolver",
    prefix: "route53resolver",
    protocol: Protocol::Json("Route53Resolver"),
};

static BALANCING: Service = Service {
    name: "Elastic Load Balancing",
    id: "Elastic Load Balancing v2",
    host: "elasticloadbalancing",
    prefix: "elasticloadbalancing",
    protocol: Protocol::Query("2015-12-01"),
};

/// A client of Route 53 Resolver.
#[derive(Debug, Clone)]
pub struct Resolver(Caller);

impl Resolver {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &RESOLVER)?))
    }

    /// The VPCs whose queries for names are logged now.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] without `route53resolver:ListResolverQueryLogConfigAssociations`.
    pub fn logged_vpcs(&self) -> Result<Answered<Vec<String>>, Failure> {
        let operation = "ListResolverQueryLogConfigAssociations";
        all_pages(&format!("Route 53 Resolver {operation}"), |token| {
            let body = token.map(|token| ("NextToken".to_owned(), Value::from(token)));
            let body = Value::Object(body.into_iter().collect::<Map<_, _>>());
            let (answer, raw) = self.0.json(&Call::reads(operation, ""), &body)?;
            let all = answer.get("ResolverQueryLogConfigAssociations").and_then(Value::as_array);
            let is_active = |one: &&Value| one.get("Status").and_then(Value::as_str) == Some("ACTIVE");
            let of = |one: &Value| one.get("ResourceId").and_then(Value::as_str).map(str::to_owned);
            let vpcs = all.into_iter().flatten().filter(is_active).filter_map(of).collect();
            Ok((vpcs, answer.get("NextToken").and_then(Value::as_str).map(str::to_owned), raw))
        })
    }
}

/// A load balancer, and whether its requests are logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// `application`, `network` or `gateway`.
    pub kind: String,
}

/// A client of Elastic Load Balancing.
#[derive(Debug, Clone)]
pub struct LoadBalancers(Caller);

impl LoadBalancers {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &BALANCING)?))
    }

    /// Those of the region.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] without `elasticloadbalancing:DescribeLoadBalancers`.
    pub fn all(&self) -> Result<Answered<Vec<LoadBalancer>>, Failure> {
        all_pages("Elastic Load Balancing DescribeLoadBalancers", |marker| {
            let call = Call::reads("DescribeLoadBalancers", "");
            let (answer, raw) = self.0.form(&call, Form::default().maybe("Marker", marker))?;
            let result = answer.child("DescribeLoadBalancersResult");
            let all = result.into_iter().flat_map(|result| result.list("LoadBalancers"));
            let all = all.map(|one| LoadBalancer {
                arn: one.string(&["LoadBalancerArn"]),
                name: one.string(&["LoadBalancerName"]),
                kind: one.string(&["Type"]),
            });
            Ok((all.collect(), result.and_then(|result| result.some(&["NextMarker"])), raw))
        })
    }

    /// Whether the requests to one are logged.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] without `elasticloadbalancing:DescribeLoadBalancerAttributes`.
    pub fn is_logged(&self, arn: &str) -> Result<Answered<bool>, Failure> {
        let call = Call::reads("DescribeLoadBalancerAttributes", arn);
        let (answer, raw) = self.0.form(&call, Form::default().with("LoadBalancerArn", arn))?;
        let result = answer.child("DescribeLoadBalancerAttributesResult");
        let mut attributes = result.into_iter().flat_map(|result| result.list("Attributes"));
        let value = attributes
            .any(|one| one.at(&["Key"]) == "access_logs.s3.enabled" && one.at(&["Value"]) == "true");
        Ok(Answered { value, raw: vec![raw] })
    }
}
