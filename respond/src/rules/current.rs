//! The rules and assets in force, replaced as a whole while the service runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use custody::Clock;

use super::decide::Decider;
use super::rule::RuleSet;
use super::{Decide, Decision};
use crate::alert::Alert;
use crate::error::Result;
use crate::inventory::Inventory;
use crate::settings::Settings;

/// Decides by what was last loaded without a fault.
pub struct Current {
    rules: PathBuf,
    inventory: Option<PathBuf>,
    accounts: Vec<String>,
    clock: Arc<dyn Clock>,
    decider: RwLock<Arc<Decider>>,
}

impl Current {
    /// Loads the rules and assets that the settings name.
    ///
    /// # Errors
    ///
    /// As [`RuleSet::load`] and [`Inventory::load`].
    pub fn load(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let rules = settings.rules.clone();
        let inventory = settings.inventory.clone();
        let accounts = settings.aws.accounts.clone();
        let decider = RwLock::new(Arc::new(read(&rules, inventory.as_ref(), &accounts, &clock)?));
        Ok(Self { rules, inventory, accounts, clock, decider })
    }

    /// Loads them again. A decision is made by all of the old or all of the new, never by a part of each.
    ///
    /// # Errors
    ///
    /// As [`RuleSet::load`] and [`Inventory::load`]; then those that were in force stay so.
    pub fn reload(&self) -> Result<Arc<Decider>> {
        let new = Arc::new(read(&self.rules, self.inventory.as_ref(), &self.accounts, &self.clock)?);
        *self.decider.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        Ok(new)
    }

    /// Decides by these from now on: what another [`Current`] has loaded.
    pub fn put_in(&self, decider: Arc<Decider>) {
        *self.decider.write().unwrap_or_else(PoisonError::into_inner) = decider;
    }

    /// What is in force now; it stays as it is, whatever is loaded meanwhile.
    #[must_use]
    pub fn get(&self) -> Arc<Decider> {
        Arc::clone(&self.decider.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Decide for Current {
    fn decide(&self, alert: &Alert) -> Decision {
        self.get().decide(alert)
    }
}

fn read(
    rules: &Path,
    inventory: Option<&PathBuf>,
    accounts: &[String],
    clock: &Arc<dyn Clock>,
) -> Result<Decider> {
    let rules = RuleSet::load(rules)?;
    let inventory = match inventory {
        Some(path) => Inventory::load(path)?,
        None => Inventory::default(),
    };
    let inventory = inventory.with_accounts(accounts.to_vec());
    Ok(Decider::new(Arc::new(rules), Arc::new(inventory), Arc::clone(clock)))
}

#[cfg(test)]
mod tests {
    use custody::FixedClock;

    use super::*;

    #[test]
    fn a_file_with_a_fault_leaves_the_old_rules_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules.toml");
        let inventory = folder.path().join("assets.toml");
        std::fs::write(&rules, "version = 1\n").unwrap();
        std::fs::write(&inventory, "version = 1\n[[asset]]\nkind = \"host\"\nid = \"web01\"\n").unwrap();
        let settings = format!(
            "state = 's'\ncases = 'c'\nexaminer = 'e'\nrules = {rules:?}\ninventory = {inventory:?}\n"
        );
        let settings: Settings = toml::from_str(&settings).unwrap();
        let current = Current::load(&settings, Arc::new(FixedClock::at(0))).unwrap();
        let before = current.get();
        std::fs::write(&rules, "version = 1\n[limits]\ncaptures.per_hour = 7\n").unwrap();
        std::fs::write(&inventory, "version = 1\n[[asset]]\nkind = \"host\"\nid = \"a b\"\n").unwrap();
        assert!(current.reload().is_err());
        assert!(Arc::ptr_eq(&before, &current.get()));
        assert_eq!((before.rules().limits().captures_per_hour, before.inventory().len()), (30, 1));
        std::fs::write(&inventory, "version = 1\n").unwrap();
        let after = current.reload().unwrap();
        assert_eq!((after.rules().limits().captures_per_hour, after.inventory().len()), (7, 0));
        assert!(Arc::ptr_eq(&after, &current.get()));
    }
}
