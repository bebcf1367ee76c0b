//! An EC2 instance with two interfaces, an access key and a role's sessions, isolated and let back, on moto.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acquire::aws::ec2::{Ec2, Peer};
use acquire::aws::iam::Iam;
use acquire::aws::{Connection, Credentials, Settings};
use custody::SystemClock;
use respond::isolate::ec2_groups::{Ec2Groups, Wanted};
use respond::isolate::iam_key::IamKey;
use respond::isolate::iam_sessions::IamSessions;
use respond::isolate::{Isolation, isolate, take_back};
use serde_json::{Value, json};

use crate::fake_service::{Asked, account, serve};
use crate::moto::{Moto, moto};

const EC2: &str = "Version=2016-11-15";
const IAM: &str = "Version=2010-05-08";

fn connection(moto: &Moto, region: &str) -> Connection {
    let credentials = Credentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        session_token: None,
    };
    Connection::open(&Settings {
        region: Some(region.to_owned()),
        profile: None,
        credentials: Some(credentials),
        endpoint: Some(moto.endpoint.clone()),
    })
    .unwrap()
}

/// The text of the first element of this name.
fn first(answer: &str, name: &str) -> String {
    let from = answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {answer}")).1;
    from.split_once('<').unwrap().0.to_owned()
}

/// An instance in a network of its own with IPv6, with two interfaces, an elastic address and a role.
struct Machine {
    moto: &'static Moto,
    region: &'static str,
    connection: Connection,
    instance: String,
    interfaces: Vec<String>,
    groups: Vec<String>,
    subnet: String,
}

impl Machine {
    fn make(region: &'static str) -> Option<Self> {
        let moto = moto()?;
        let ask = |form: &str| moto.ask(region, &format!("{EC2}&{form}"));
        let vpc =
            first(&ask("Action=CreateVpc&CidrBlock=10.3.0.0/16&AmazonProvidedIpv6CidrBlock=true"), "vpcId");
        let subnet =
            first(&ask(&format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.3.1.0/24")), "subnetId");
        let groups: Vec<String> = ["web", "admin", "backup"]
            .iter()
            .map(|name| {
                let form =
                    format!("Action=CreateSecurityGroup&GroupName={name}&GroupDescription=x&VpcId={vpc}");
                first(&ask(&form), "groupId")
            })
            .collect();
        let image = first(&ask("Action=DescribeImages"), "imageId");
        let made = ask(&format!(
            "Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1&InstanceType=t3.micro&SubnetId={subnet}&SecurityGroupId.1={}&SecurityGroupId.2={}",
            groups[0], groups[1]
        ));
        let instance = first(&made, "instanceId");
        let second = first(
            &ask(&format!("Action=CreateNetworkInterface&SubnetId={subnet}&SecurityGroupId.1={}", groups[2])),
            "networkInterfaceId",
        );
        ask(&format!(
            "Action=AttachNetworkInterface&NetworkInterfaceId={second}&InstanceId={instance}&DeviceIndex=1"
        ));
        let connection = connection(moto, region);
        let ec2 = Ec2::new(&connection).unwrap();
        let interfaces: Vec<String> =
            ec2.interfaces_of(&instance).unwrap().value.into_iter().map(|interface| interface.id).collect();
        assert!(interfaces.len() == 2 && interfaces.contains(&second), "{interfaces:?}");
        let address = first(&ask("Action=AllocateAddress&Domain=vpc"), "allocationId");
        ask(&format!("Action=AssociateAddress&AllocationId={address}&NetworkInterfaceId={second}"));
        let iam = |form: &str| moto.ask_service("iam", "us-east-1", &format!("{IAM}&{form}"));
        let profile = format!("web-{region}");
        iam(&format!("Action=CreateInstanceProfile&InstanceProfileName={profile}"));
        ask(&format!(
            "Action=AssociateIamInstanceProfile&InstanceId={instance}&IamInstanceProfile.Name={profile}"
        ));
        Some(Self { moto, region, connection, instance, interfaces, groups, subnet })
    }

    fn ask(&self, form: &str) -> String {
        self.moto.ask(self.region, &format!("{EC2}&{form}"))
    }

    fn isolation(&self, wanted: Wanted) -> Ec2Groups<'static> {
        self.isolation_of("j7-isolate", &self.connection, wanted)
    }

    fn isolation_of(&self, mark: &str, connection: &Connection, wanted: Wanted) -> Ec2Groups<'static> {
        Ec2Groups::new(connection, mark, &self.instance, wanted, &SystemClock).unwrap()
    }

    /// A connection on whose way some requests are answered otherwise, by their form.
    fn between(&self, answers: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Connection {
        let endpoint = serve(move |asked| match answers(&asked.body) {
            Some(answer) => answer,
            None => pass_on(asked),
        });
        account(&endpoint, self.region)
    }

    /// The interfaces as they are recorded.
    fn was(&self, recorded: &Value, interface: &str) -> Value {
        let mut all = recorded["interfaces"].as_array().unwrap().iter();
        all.find(|was| was["id"] == interface).unwrap()["groups"].clone()
    }

    /// All of the network that an isolation touches.
    fn state(&self) -> Value {
        let ec2 = Ec2::new(&self.connection).unwrap();
        let interfaces: BTreeMap<String, Vec<String>> = ec2
            .interfaces_of(&self.instance)
            .unwrap()
            .value
            .into_iter()
            .map(|interface| (interface.id, interface.groups))
            .collect();
        let ids: Vec<&str> = interfaces.keys().map(String::as_str).collect();
        let mut addresses: Vec<String> = ec2
            .addresses_of(&ids)
            .unwrap()
            .value
            .into_iter()
            .map(|address| format!("{} {} {}", address.public_ip, address.interface, address.private_ip))
            .collect();
        addresses.sort();
        let profile = ec2.profile_of(&self.instance).unwrap().value.map(|profile| profile.profile);
        let mut groups: Vec<String> =
            ec2.security_groups_with(&[]).unwrap().value.into_iter().map(|group| group.id).collect();
        groups.sort();
        json!({ "interfaces": interfaces, "addresses": addresses, "profile": profile, "groups": groups })
    }
}

/// What moto answers to a request.
fn pass_on(asked: &Asked) -> (u16, String) {
    let moto = moto().unwrap();
    let mut stream = TcpStream::connect(moto.endpoint.trim_start_matches("http://")).unwrap();
    let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", asked.method, asked.path);
    for (name, value) in asked.headers.iter().filter(|(name, _)| *name != "connection") {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n{}", asked.body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// As EC2 refuses.
fn refusal(code: &str) -> (u16, String) {
    let error = format!("<Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors>");
    (400, format!("<Response>{error}<RequestID>r</RequestID></Response>"))
}

fn wanted() -> Wanted {
    Wanted {
        allow: vec!["10.3.9.9:443".to_owned(), "[2001:db8::9]:443".to_owned()],
        takes_addresses: true,
        takes_profile: true,
        settle: Duration::ZERO,
        lease: 3600,
        ..Wanted::default()
    }
}

#[test]
fn an_instance_loses_every_way_out_on_every_interface_and_gets_back_exactly_what_it_had() {
    let Some(machine) = Machine::make("eu-west-1") else { return };
    let before = machine.state();
    assert_eq!(before["addresses"].as_array().unwrap().len(), 1, "{before}");
    let isolation = machine.isolation(wanted());
    let isolated = isolate(&isolation, None, &|intent| {
        // Nothing is touched before the state is kept.
        assert_eq!(machine.state(), before);
        assert_eq!(intent["recorded"]["interfaces"].as_array().unwrap().len(), 2);
        Ok(())
    })
    .unwrap();
    // What no packet has tried is read back, and not called proved.
    assert!(!isolated.is_proved && isolated.verified.open().is_none(), "{:?}", isolated.verified);
    assert_eq!(isolated.verified.read_back.len(), 4, "both interfaces, the address, the role");
    let warnings = isolated.recorded["warnings"].to_string();
    for said in ["resolver", "169.254.169.254", "NAT gateway"] {
        assert!(warnings.contains(said), "{said} is not in: {warnings}");
    }

    let ec2 = Ec2::new(&machine.connection).unwrap();
    let deny = isolated.applied["groups"][0]["deny"].as_str().unwrap().to_owned();
    let convert = isolated.applied["groups"][0]["convert"].as_str().unwrap().to_owned();
    let during = machine.state();
    for interface in &machine.interfaces {
        assert_eq!(during["interfaces"][interface], json!([deny]));
    }
    assert_eq!((&during["addresses"], &during["profile"]), (&json!([]), &Value::Null));
    // A new group of a network with IPv6 lets everything out in both families: neither rule may stay.
    let rules = ec2.rules_of_group(&deny).unwrap().value;
    let mut peers: Vec<Peer> = rules.iter().map(|rule| rule.permission.clone().unwrap().peer).collect();
    peers.sort();
    assert!(rules.iter().all(|rule| rule.is_egress));
    assert_eq!(peers, [Peer::Ipv4("10.3.9.9/32".to_owned()), Peer::Ipv6("2001:db8::9/128".to_owned())]);
    let all = ec2.rules_of_group(&convert).unwrap().value;
    assert_eq!(all.len(), 4, "both directions, both families");

    // Again is as once.
    let again = isolate(&isolation, Some(&isolated.recorded), &|_| panic!("it is recorded already")).unwrap();
    assert_eq!((again.applied, machine.state()), (isolated.applied.clone(), during));

    let given = serde_json::to_value(&isolated).unwrap();
    for _ in 0..2 {
        let restored = take_back(&machine.isolation(Wanted::default()), &given).unwrap();
        assert!(restored.is_exact(), "{restored:?}");
        assert_eq!(machine.state(), before);
    }
}

#[test]
fn a_kill_within_the_isolation_of_an_instance_leaves_what_can_be_gone_on_from_and_taken_back() {
    let Some(machine) = Machine::make("eu-west-2") else { return };
    let before = machine.state();
    let isolation = machine.isolation(wanted());
    let recorded = isolation.record().unwrap();
    isolation.apply(&recorded).unwrap();
    // As if killed between the first group and the second, one interface in each: everything is let through.
    let ec2 = Ec2::new(&machine.connection).unwrap();
    let ours = ec2.security_groups_with(&[("exhibit-isolation", "j7-isolate")]).unwrap().value;
    let convert = ours.iter().find(|group| group.tag("exhibit-role") == Some("convert")).unwrap();
    ec2.set_interface_groups(&machine.interfaces[0], &[&convert.id]).unwrap();
    assert!(isolation.verify(&recorded).unwrap().open().is_some());
    let isolated = isolate(&isolation, Some(&recorded), &|_| panic!("it is recorded already")).unwrap();
    assert!(isolated.verified.open().is_none());
    // And taken back from such a half way, by the intent alone.
    ec2.set_interface_groups(&machine.interfaces[0], &[&convert.id]).unwrap();
    let restored = take_back(&isolation, &json!({ "recorded": recorded })).unwrap();
    assert!(restored.is_exact(), "{restored:?}");
    assert_eq!(machine.state(), before);
    // A kill right after the intent: there is nothing to take back, and nothing is changed.
    let restored = take_back(&isolation, &json!({ "recorded": recorded })).unwrap();
    assert!(restored.is_exact() && machine.state() == before, "{restored:?}");
}

#[test]
fn what_others_change_on_an_isolated_instance_is_told_and_left() {
    let Some(machine) = Machine::make("eu-west-3") else { return };
    let isolation = machine.isolation(wanted());
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let ec2 = Ec2::new(&machine.connection).unwrap();
    // Somebody gives one interface another group, another one to the instance, and the address to somebody else.
    ec2.set_interface_groups(&machine.interfaces[0], &[&machine.groups[2]]).unwrap();
    let foreign = first(
        &machine.ask(&format!("Action=CreateNetworkInterface&SubnetId={}", machine.subnet)),
        "networkInterfaceId",
    );
    let more = first(
        &machine.ask(&format!("Action=CreateNetworkInterface&SubnetId={}", machine.subnet)),
        "networkInterfaceId",
    );
    machine.ask(&format!(
        "Action=AttachNetworkInterface&NetworkInterfaceId={more}&InstanceId={}&DeviceIndex=2",
        machine.instance
    ));
    let address = isolated.recorded["addresses"][0]["allocation"].as_str().unwrap();
    machine.ask(&format!("Action=AssociateAddress&AllocationId={address}&NetworkInterfaceId={foreign}"));
    assert!(isolation.verify(&isolated.recorded).unwrap().open().is_some(), "a hole was not seen");

    let restored = take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap();
    let all = restored.differences.join("\n");
    for said in [machine.interfaces[0].as_str(), more.as_str(), foreign.as_str(), "set by others", "added to"]
    {
        assert!(all.contains(said), "{said} is not in: {all}");
    }
    let after = machine.state();
    assert_eq!(after["interfaces"][&machine.interfaces[0]], json!([machine.groups[2]]), "it was overwritten");
    // What nobody else touched is back.
    let mut was = isolated.recorded["interfaces"].as_array().unwrap().iter();
    let was = was.find(|was| was["id"] == machine.interfaces[1].as_str()).unwrap();
    assert_eq!(after["interfaces"][&machine.interfaces[1]], was["groups"]);
    assert!(after["profile"].is_string());
}

#[test]
fn an_instance_that_one_isolation_holds_is_refused_to_another_and_comes_back_whole() {
    let Some(machine) = Machine::make("me-south-1") else { return };
    let before = machine.state();
    let first = machine.isolation(wanted());
    let second = machine.isolation_of("j8-isolate", &machine.connection, wanted());
    // Recorded before the first one held it, and applied after.
    let late = second.record().unwrap();
    let isolated = isolate(&first, None, &|_| Ok(())).unwrap();
    let during = machine.state();
    for refused in [second.record().unwrap_err(), second.apply(&late).unwrap_err()] {
        assert!(
            !refused.may_help_again && refused.what.contains("isolated already, by j7-isolate"),
            "{refused}"
        );
    }
    // The first one again, which has lost what it recorded, is refused too.
    assert!(first.record().is_err());
    assert_eq!(machine.state(), during);
    assert!(!take_back(&second, &json!({ "recorded": late })).unwrap().is_exact());
    assert_eq!(machine.state(), during, "the end of the other one let it out");
    assert!(take_back(&first, &serde_json::to_value(&isolated).unwrap()).unwrap().is_exact());
    assert_eq!(machine.state(), before);
}

#[test]
fn a_terminated_instance_ends_its_isolation_and_leaves_no_group_of_ours() {
    let Some(machine) = Machine::make("eu-south-1") else { return };
    let isolation = machine.isolation(wanted());
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    machine.ask(&format!("Action=TerminateInstances&InstanceId.1={}", machine.instance));
    // As EC2 does at the end: its interfaces are gone, and nothing can be given to them.
    let gone = machine.between(|form| {
        if form.contains("Action=DescribeNetworkInterfaces") {
            let none = "<networkInterfaceSet/>";
            return Some((
                200,
                format!("<DescribeNetworkInterfacesResponse>{none}</DescribeNetworkInterfacesResponse>"),
            ));
        }
        let gives = form.contains("Action=AssociateAddress") || form.contains("Action=AssociateIam");
        gives.then(|| refusal("InvalidNetworkInterfaceID.NotFound"))
    });
    // moto holds that they still have them.
    let free = Ec2::new(&machine.connection).unwrap();
    for interface in &machine.interfaces {
        let _ = free.set_interface_groups(interface, &[&machine.groups[0]]);
    }
    let isolation = machine.isolation_of("j7-isolate", &gone, Wanted::default());
    let restored = take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap();
    let told = restored.differences.join("\n");
    for said in ["no longer with", "is with nobody", "was terminated"] {
        assert!(told.contains(said), "{said} is not in: {told}");
    }
    assert!(free.security_groups_with(&[("exhibit-isolation", "j7-isolate")]).unwrap().value.is_empty());
}

#[test]
fn a_group_that_others_deleted_keeps_no_other_from_being_given_back() {
    let Some(machine) = Machine::make("eu-south-2") else { return };
    let isolation = machine.isolation(wanted());
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let given = serde_json::to_value(&isolated).unwrap();
    // The interface with two groups has lost one of them.
    let gone = machine.groups[0].clone();
    Ec2::new(&machine.connection).unwrap().delete_security_group(&gone).unwrap();
    let name = gone.clone();
    let without = machine.between(move |form| {
        let gives = form.contains("Action=ModifyNetworkInterfaceAttribute") && form.contains(&name);
        gives.then(|| refusal("InvalidGroup.NotFound"))
    });
    let two = machine
        .interfaces
        .iter()
        .find(|interface| machine.was(&isolated.recorded, interface).as_array().unwrap().len() == 2)
        .unwrap();
    let one = machine.interfaces.iter().find(|interface| *interface != two).unwrap();
    let restored =
        take_back(&machine.isolation_of("j7-isolate", &without, Wanted::default()), &given).unwrap();
    let told = restored.differences.join("\n");
    assert!(
        restored.differences.len() == 1 && told.contains(&format!("{gone} was deleted by others")),
        "{told}"
    );
    let after = machine.state();
    assert_eq!(after["interfaces"][two], json!([machine.groups[1]]));
    assert_eq!(after["interfaces"][one], machine.was(&isolated.recorded, one));
    assert!(after["profile"].is_string() && after["addresses"].as_array().unwrap().len() == 1, "{after}");
    let ec2 = Ec2::new(&machine.connection).unwrap();
    assert!(ec2.security_groups_with(&[("exhibit-isolation", "j7-isolate")]).unwrap().value.is_empty());
}

#[test]
fn an_interface_none_of_whose_groups_is_left_stays_cut_off_and_that_is_told() {
    let Some(machine) = Machine::make("eu-central-2") else { return };
    let isolation = machine.isolation(wanted());
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let given = serde_json::to_value(&isolated).unwrap();
    let gone = machine.groups[2].clone();
    Ec2::new(&machine.connection).unwrap().delete_security_group(&gone).unwrap();
    let deny = isolated.applied["groups"][0]["deny"].as_str().unwrap().to_owned();
    let in_use = deny.clone();
    let without = machine.between(move |form| {
        if form.contains("Action=DeleteSecurityGroup") && form.contains(&in_use) {
            // moto would let it go though an interface has it.
            return Some(refusal("DependencyViolation"));
        }
        let gives = form.contains("Action=ModifyNetworkInterfaceAttribute") && form.contains(&gone);
        gives.then(|| refusal("InvalidGroup.NotFound"))
    });
    let isolation = machine.isolation_of("j7-isolate", &without, Wanted::default());
    let restored = take_back(&isolation, &given).unwrap();
    let told = restored.differences.join("\n");
    assert!(told.contains("is cut off still") && told.contains("in use still, and was left"), "{told}");
    let after = machine.state();
    let held: Vec<&String> = machine
        .interfaces
        .iter()
        .filter(|interface| after["interfaces"][interface.as_str()] == json!([deny]))
        .collect();
    assert_eq!(held.len(), 1, "{after}");
}

#[test]
fn a_role_that_is_still_being_taken_away_is_waited_for_and_not_taken_for_the_one_of_before() {
    let Some(machine) = Machine::make("ap-south-2") else { return };
    let before = machine.state();
    let isolated = isolate(&machine.isolation(wanted()), None, &|_| Ok(())).unwrap();
    let given = serde_json::to_value(&isolated).unwrap();
    let is_going = Arc::new(AtomicBool::new(true));
    let (going, instance) = (Arc::clone(&is_going), machine.instance.clone());
    let profile = isolated.recorded["profile"].as_str().unwrap().to_owned();
    let slow = machine.between(move |form| {
        let asks = form.contains("Action=DescribeIamInstanceProfileAssociations");
        (asks && going.load(Ordering::SeqCst)).then(|| {
            let item = format!(
                "<item><associationId>iip-assoc-1</associationId><instanceId>{instance}</instanceId>\
                 <iamInstanceProfile><arn>{profile}</arn></iamInstanceProfile><state>disassociating</state></item>"
            );
            let set = format!("<iamInstanceProfileAssociationSet>{item}</iamInstanceProfileAssociationSet>");
            (200, format!("<DescribeIamInstanceProfileAssociationsResponse>{set}</DescribeIamInstanceProfileAssociationsResponse>"))
        })
    });
    let isolation = machine.isolation_of("j7-isolate", &slow, wanted());
    let verified = isolation.verify(&isolated.recorded).unwrap();
    assert!(
        verified.not_tried.iter().any(|what| what.contains("still taking its role away")),
        "{verified:?}"
    );
    let failed = take_back(&isolation, &given).unwrap_err();
    assert!(failed.may_help_again && failed.what.contains("being taken away"), "{failed}");
    // All else was put back by then.
    assert_eq!(machine.state()["interfaces"], before["interfaces"]);
    is_going.store(false, Ordering::SeqCst);
    assert!(take_back(&isolation, &given).unwrap().is_exact());
    assert_eq!(machine.state(), before);
}

#[test]
fn an_address_or_a_role_that_was_not_taken_away_is_a_hole() {
    let Some(machine) = Machine::make("ap-southeast-3") else { return };
    // Says that it does what it does not do.
    let idle = machine.between(|form| {
        let takes = form.contains("Action=DisassociateAddress") || form.contains("Action=DisassociateIam");
        takes.then(|| (200, "<Response><return>true</return></Response>".to_owned()))
    });
    let isolation = machine.isolation_of("j7-isolate", &idle, wanted());
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let open: Vec<&str> = isolated
        .verified
        .forbidden
        .iter()
        .filter(|probe| probe.got_through)
        .map(|probe| probe.what.as_str())
        .collect();
    assert!(open.len() == 2 && open[0].contains("elastic address") && open[1].contains("role"), "{open:?}");
}

#[test]
fn an_access_key_is_made_inactive_and_active_again_unless_it_was_not() {
    let Some(moto) = moto() else { return };
    let iam = |form: &str| moto.ask_service("iam", "us-east-1", &format!("{IAM}&{form}"));
    iam("Action=CreateUser&UserName=mallory");
    let key = first(&iam("Action=CreateAccessKey&UserName=mallory"), "AccessKeyId");
    let connection = connection(moto, "us-east-1");
    let client = Iam::new(&connection).unwrap();
    let is_active = || client.list_access_keys("mallory").unwrap().value[0].is_active;
    let isolation = IamKey::new(&connection, "j8-key", &key, 0, &SystemClock).unwrap();
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    assert!(!is_active() && isolated.recorded["user"] == "mallory");
    assert!(!isolated.is_proved && isolated.verified.read_back.len() == 1);
    isolation.apply(&isolated.recorded).unwrap();
    let given = serde_json::to_value(&isolated).unwrap();
    assert!(take_back(&isolation, &given).unwrap().is_exact() && is_active());
    // Somebody else had it active before us.
    assert!(take_back(&isolation, &given).unwrap().is_exact() && is_active());

    client.set_access_key("mallory", &key, false).unwrap();
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    assert!(take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap().is_exact());
    assert!(!is_active(), "a key that was inactive before was made active");
    client.set_access_key("mallory", &key, true).unwrap();
    let restored = take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap();
    assert!(!restored.is_exact() && is_active(), "{restored:?}");

    iam(&format!("Action=DeleteAccessKey&UserName=mallory&AccessKeyId={key}"));
    assert!(!take_back(&isolation, &given).unwrap().is_exact());
    assert!(isolate(&isolation, Some(&isolated.recorded), &|_| Ok(())).is_err());
    for none in ["ASIAIOSFODNN7EXAMPLE", "AKIA", "AKIAIOSFODNN7EXAMPLE&x", "mallory"] {
        assert!(IamKey::new(&connection, "j8", none, 0, &SystemClock).is_err(), "{none}");
    }
}

#[test]
fn the_sessions_of_a_role_are_revoked_by_time_and_only_our_own_policy_is_taken_away() {
    let Some(moto) = moto() else { return };
    let iam = |form: &str| moto.ask_service("iam", "us-east-1", &format!("{IAM}&{form}"));
    let trust = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D";
    iam(&format!("Action=CreateRole&RoleName=web&AssumeRolePolicyDocument={trust}"));
    let connection = connection(moto, "us-east-1");
    let client = Iam::new(&connection).unwrap();
    let own = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*" }] });
    client.put_own_policy("web", "reads", &own).unwrap();
    let arn = "arn:aws:iam::123456789012:role/web";
    let isolation = IamSessions::new(&connection, "j9-sessions", arn, 0, &SystemClock).unwrap();
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let warnings = isolated.recorded["warnings"].to_string();
    assert!(warnings.contains("every session of web"), "{warnings}");
    let document = client.own_policy_document("web", "exhibit-j9-sessions").unwrap();
    let condition = &document["Statement"][0]["Condition"]["DateLessThan"]["aws:TokenIssueTime"];
    assert_eq!(condition, &isolated.recorded["issued_before"]);
    assert!(condition.as_str().unwrap().ends_with('Z') && document["Statement"][0]["Effect"] == "Deny");
    // Applied again it is the same moment: sessions of since then are not hit.
    isolation.apply(&isolated.recorded).unwrap();
    assert_eq!(client.own_policy_document("web", "exhibit-j9-sessions").unwrap(), document);
    let given = serde_json::to_value(&isolated).unwrap();
    for _ in 0..2 {
        assert!(take_back(&isolation, &given).unwrap().is_exact());
        assert_eq!(client.own_policies("web").unwrap().value, ["reads"]);
    }
    assert_eq!(client.own_policy_document("web", "reads").unwrap(), own);

    // Somebody else makes the policy their own.
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    client.put_own_policy("web", "exhibit-j9-sessions", &own).unwrap();
    client.delete_own_policy("web", "reads").unwrap();
    assert!(isolation.verify(&isolated.recorded).is_err());
    let restored = take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap();
    assert_eq!(restored.differences.len(), 2, "{restored:?}");
    assert_eq!(client.own_policy_document("web", "exhibit-j9-sessions").unwrap(), own);
}
