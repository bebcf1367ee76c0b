//! A container of a real Docker, taken from its networks and put back.

use custody::SystemClock;
use respond::isolate::docker_networks::DockerNetworks;
use respond::isolate::{Isolation, isolate, take_back};
use serde_json::{Value, json};

use crate::dockerd::Dockerd;

fn isolation(docker: &Dockerd, container: &str, pause: bool) -> DockerNetworks<'static> {
    DockerNetworks::new(&docker.socket, "j3-isolate", container, pause, 3600, &SystemClock).unwrap()
}

/// What an isolation touches.
fn state(docker: &Dockerd, container: &str) -> Value {
    let found = docker.ok("GET", &format!("/containers/{container}/json"), &Value::Null);
    let networks = found["NetworkSettings"]["Networks"].as_object().unwrap().iter().map(|(name, network)| {
        let mut aliases: Vec<String> = serde_json::from_value(network["Aliases"].clone()).unwrap_or_default();
        aliases.sort();
        aliases.dedup();
        (name.clone(), json!({ "ip": network["IPAddress"], "aliases": aliases }))
    });
    json!({ "networks": networks.collect::<serde_json::Map<_, _>>(), "paused": found["State"]["Paused"] })
}

fn network(docker: &Dockerd, name: &str, subnet: Option<&str>) -> String {
    let ranges = subnet.map_or(json!([]), |subnet| json!([{ "Subnet": subnet }]));
    let body = json!({ "Name": name, "IPAM": { "Config": ranges } });
    docker.ok("POST", "/networks/create", &body)["Id"].as_str().unwrap().to_owned()
}

fn connect(docker: &Dockerd, network: &str, container: &str, alias: &str) {
    let body = json!({ "Container": container, "EndpointConfig": { "Aliases": [alias] } });
    docker.ok("POST", &format!("/networks/{network}/connect"), &body);
}

#[test]
fn a_container_loses_every_network_and_gets_them_back_with_addresses_and_names() {
    // One daemon for all: it takes seconds to start.
    let Some(docker) = Dockerd::start() else { return };
    let (front, back) = (network(&docker, "front", Some("10.88.1.0/24")), network(&docker, "back", None));
    let endpoint =
        json!({ "front": { "IPAMConfig": { "IPv4Address": "10.88.1.77" }, "Aliases": ["web", "www"] } });
    let id = docker.run(&json!({ "NetworkMode": "front" }), &endpoint);
    connect(&docker, &back, &id, "db-client");
    let before = state(&docker, &id);
    assert_eq!(before["networks"].as_object().unwrap().len(), 2, "{before}");

    for pause in [true, false] {
        let isolation = isolation(&docker, &id, pause);
        let isolated = isolate(&isolation, None, &|_| {
            assert_eq!(state(&docker, &id), before);
            Ok(())
        })
        .unwrap();
        // The kernel says so, not Docker alone.
        assert!(isolated.is_proved, "{:?}", isolated.verified);
        assert_eq!(isolated.verified.forbidden[0].seen, "loopback alone");
        let during = state(&docker, &id);
        assert_eq!((&during["networks"], &during["paused"]), (&json!({}), &json!(pause)));
        isolate(&isolation, Some(&isolated.recorded), &|_| panic!("it is recorded already")).unwrap();
        assert_eq!(state(&docker, &id), during);
        let given = serde_json::to_value(&isolated).unwrap();
        for _ in 0..2 {
            let restored = take_back(&isolation, &given).unwrap();
            assert!(restored.is_exact(), "{restored:?}");
            assert_eq!(state(&docker, &id), before);
        }
        // Killed half way: one network gone, the other not.
        docker.ok("POST", &format!("/networks/{front}/disconnect"), &json!({ "Container": id }));
        isolate(&isolation, Some(&isolated.recorded), &|_| panic!("it is recorded already")).unwrap();
        assert_eq!(state(&docker, &id), during);
        docker.ok(
            "POST",
            &format!("/networks/{front}/connect"),
            &json!({ "Container": id,
            "EndpointConfig": { "IPAMConfig": { "IPv4Address": "10.88.1.77" }, "Aliases": ["web", "www"] } }),
        );
        assert!(take_back(&isolation, &given).unwrap().is_exact() && state(&docker, &id) == before);
    }
    what_others_put_it_into_before_a_run_goes_on_is_left(&docker, &id);
    a_container_that_ended_is_put_back_for_its_next_start(&docker, &id);
    what_has_no_network_of_its_own_is_refused(&docker, &id);
    what_others_do_meanwhile_is_told_and_left(&docker, &id, &back);
}

fn what_others_put_it_into_before_a_run_goes_on_is_left(docker: &Dockerd, id: &str) {
    let before = state(docker, id);
    let isolation = isolation(docker, id, false);
    let recorded = isolation.record().unwrap();
    let later = network(docker, "later", None);
    connect(docker, &later, id, "late");
    let isolated = isolate(&isolation, Some(&recorded), &|_| panic!("it is recorded already")).unwrap();
    assert!(isolated.verified.open().is_some(), "the network of others was not told");
    let during = state(docker, id);
    let names: Vec<&String> = during["networks"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["later"]);
    docker.ok("POST", &format!("/networks/{later}/disconnect"), &json!({ "Container": id }));
    assert!(take_back(&isolation, &serde_json::to_value(&isolated).unwrap()).unwrap().is_exact());
    assert_eq!(state(docker, id), before);
}

fn a_container_that_ended_is_put_back_for_its_next_start(docker: &Dockerd, id: &str) {
    let before = state(docker, id);
    let isolation = isolation(docker, id, false);
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let given = serde_json::to_value(&isolated).unwrap();
    docker.ok("POST", &format!("/containers/{id}/kill"), &Value::Null);
    docker.ok("POST", &format!("/containers/{id}/wait?condition=not-running"), &Value::Null);
    for _ in 0..2 {
        let restored = take_back(&isolation, &given).unwrap();
        let (told, noted) = (restored.differences.join("\n"), restored.notes.join("\n"));
        assert!(restored.differences.len() == 1 && told.contains("does not run any more"), "{told}");
        assert!(noted.contains("\"front\"") && noted.contains("\"back\""), "{noted}");
    }
    docker.ok("POST", &format!("/containers/{id}/start"), &Value::Null);
    let after = state(docker, id);
    let networks = |state: &Value| state["networks"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(networks(&after), networks(&before));
    assert_eq!(after["networks"]["front"], before["networks"]["front"]);
}

fn what_has_no_network_of_its_own_is_refused(docker: &Dockerd, other: &str) {
    for mode in ["host".to_owned(), format!("container:{other}")] {
        let id = docker.run(&json!({ "NetworkMode": mode }), &Value::Null);
        let failed = isolation(docker, &id, false).record().unwrap_err();
        assert!(!failed.may_help_again && failed.what.contains("not its own"), "{failed}");
        docker.ok("DELETE", &format!("/containers/{id}?force=1"), &Value::Null);
    }
    assert!(isolation(docker, "0123456789abcdef", false).record().unwrap_err().what.contains("no container"));
}

fn what_others_do_meanwhile_is_told_and_left(docker: &Dockerd, id: &str, back: &str) {
    let isolation = isolation(docker, id, true);
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    let given = serde_json::to_value(&isolated).unwrap();
    // Another one takes its address in the network without a range of its own; it is put into a third; somebody lets it run.
    let thief = docker.run(&json!({ "NetworkMode": "back" }), &Value::Null);
    let third = network(docker, "third", None);
    connect(docker, &third, id, "sneaky");
    docker.ok("POST", &format!("/containers/{id}/unpause"), &Value::Null);
    assert!(isolation.verify(&isolated.recorded).is_err(), "it runs and was taken for frozen");
    docker.ok("POST", &format!("/containers/{id}/pause"), &Value::Null);
    assert!(isolation.verify(&isolated.recorded).unwrap().open().is_some(), "the third network was not seen");
    let restored = take_back(&isolation, &given).unwrap();
    let all = restored.differences.join("\n");
    assert!(
        restored.differences.len() == 2 && all.contains("\"back\"") && all.contains("\"third\""),
        "{all}"
    );
    assert!(state(docker, id)["networks"]["third"].is_object(), "it was overwritten");

    // A network that is gone, then the container itself.
    let isolated = isolate(&isolation, None, &|_| Ok(())).unwrap();
    docker.ok("DELETE", &format!("/containers/{thief}?force=1"), &Value::Null);
    docker.ok("DELETE", &format!("/networks/{back}"), &Value::Null);
    let given = serde_json::to_value(&isolated).unwrap();
    let restored = take_back(&isolation, &given).unwrap();
    assert!(restored.differences.join("\n").contains("network \"back\" is there no more"), "{restored:?}");
    docker.ok("DELETE", &format!("/containers/{id}?force=1"), &Value::Null);
    let restored = take_back(&isolation, &given).unwrap();
    assert!(restored.differences[0].contains("is gone"), "{restored:?}");
}
