//! The permissions that an acquisition needs, shown before it begins.

use acquire::aws::Connection;
use acquire::ebs::Target;
use acquire::ebs::permissions::{Permission, PermissionState, check};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::ui::{self, Ui};

/// Asks for them. The target must be there; nothing is made.
pub(crate) fn ask(
    connection: &Connection,
    target: &Target,
    case: &str,
    locks: bool,
) -> Result<Vec<Permission>, Failure> {
    check(connection, target, Some(case), locks).map_err(Failure::new)
}

/// Says which are missing, and which could not be found out.
pub(crate) fn say(permissions: &[Permission], ui: Ui) {
    let count = |state| permissions.iter().filter(|one| one.state == state).count() as u64;
    ui.say(&format!(
        "{} needed: {} there, {} missing, {} not tested",
        ui::count(permissions.len() as u64, "permission", "permissions"),
        count(PermissionState::Allowed),
        count(PermissionState::Denied),
        count(PermissionState::NotTested),
    ));
    for one in permissions {
        let line = format!("{} on {}: {}", one.action, one.resource, one.words);
        match one.state {
            PermissionState::Denied => ui.warn(&format!("missing: {line}")),
            PermissionState::NotTested => ui.say(&format!("  not tested: {line}")),
            PermissionState::Allowed => ui.detail(&format!("  {line}")),
        }
    }
}

/// The same for programs.
pub(crate) fn document(permissions: &[Permission]) -> Value {
    let row = |one: &Permission| {
        json!({
            "action": one.action, "resource": one.resource, "state": one.state.to_string(), "words": one.words,
        })
    };
    permissions.iter().map(row).collect()
}

/// Whether none is known to be missing.
pub(crate) fn are_there(permissions: &[Permission]) -> bool {
    permissions.iter().all(|one| one.state != PermissionState::Denied)
}
