//! Accounts and groups made, changed and removed: shadow-utils, as its `src/*.c` log them.

use super::{MOST_FIELDS, failed, is, put_text, succeeded, unquoted, user};
use crate::event::Event;

pub(super) fn understand(program: &str, message: &str, event: &mut Event) {
    if let Some(fields) = message.strip_prefix("new user: ") {
        done(event, "user-added");
        listed(fields, Who::User, event);
    } else if let Some(fields) = message
        .strip_prefix("new group: ")
        .or_else(|| message.strip_prefix("group added to ").and_then(|m| m.split_once(": ")).map(|(_, f)| f))
    {
        done(event, "group-added");
        listed(fields, Who::Group, event);
    } else if let Some(rest) = message.strip_prefix("failed ") {
        refused(program, rest, event);
    } else if let Some(rest) = message.strip_prefix("delete user ") {
        done(event, "user-removed");
        user(event, unquoted(rest));
    } else if let Some((name, group)) = member("add ", " to group ", " to shadow group ", message) {
        done(event, "user-added-to-group");
        user(event, name);
        put_text(event, "group", group);
    } else if let Some((name, group)) = member("delete ", " from group ", " from shadow group ", message) {
        done(event, "user-removed-from-group");
        user(event, name);
        put_text(event, "group", group);
    } else if let Some(rest) = message.strip_prefix("removed group ").or_else(|| group_removed(message)) {
        done(event, "group-removed");
        put_text(event, "group", unquoted(rest.split(" owned by ").next().unwrap_or(rest)));
    } else if let Some(rest) = message.strip_prefix("lock user ") {
        done(event, "password-locked");
        user(event, quoted_first(rest));
    } else if let Some(rest) = message.strip_prefix("unlock user ") {
        done(event, "password-unlocked");
        user(event, quoted_first(rest));
    } else if let Some(rest) = message.strip_prefix("change user name ") {
        done(event, "user-renamed");
        let (old, new) = rest.split_once(" to ").unwrap_or((rest, ""));
        user(event, unquoted(old));
        put_text(event, "new_name", unquoted(new));
    } else if let Some(rest) = message.strip_prefix("change user ") {
        changed(rest, event);
    } else if let Some(rest) = message.strip_prefix("changed user ") {
        done(event, "user-changed");
        user(event, quoted_first(rest));
        put_text(event, "change", rest.split_once("' ").map_or("", |(_, what)| what));
    } else if let Some(name) = message.strip_prefix("changed password expiry for ") {
        done(event, "password-expiry-changed");
        user(event, unquoted(name));
    } else if let Some(rest) = message.strip_prefix("password for ") {
        // `password for 'alice' changed by 'root'`
        let Some((name, by)) = rest.split_once(" changed by ") else { return };
        done(event, "password-changed");
        user(event, unquoted(name));
        put_text(event, "by_user", unquoted(by));
    } else if let Some(rest) = message.strip_prefix("user ") {
        by_gpasswd(rest, event);
    }
}

fn done(event: &mut Event, action: &'static str) {
    is(event, "iam", action);
    succeeded(event);
}

enum Who {
    User,
    Group,
}

/// `name=alice, UID=1001, GID=1001, home=/home/alice, shell=/bin/bash, from=/dev/pts/2`
fn listed(fields: &str, who: Who, event: &mut Event) {
    for field in fields.split(", ").take(MOST_FIELDS) {
        match (field.trim().split_once('='), &who) {
            (Some(("name", name)), Who::User) => user(event, name),
            (Some(("name", name)), Who::Group) => put_text(event, "group", name),
            (Some(("UID", value)), _) => put_text(event, "uid", value),
            (Some(("GID", value)), _) => put_text(event, "gid", value),
            (Some(("home", value)), _) => put_text(event, "home", value),
            (Some(("shell", value)), _) => put_text(event, "shell", value),
            (Some(("from", value)), _) => put_text(event, "tty", value),
            _ => {}
        }
    }
}

/// `failed adding user 'alice', data deleted`, `failed adding user 'alice', exit code: 9`
fn refused(program: &str, rest: &str, event: &mut Event) {
    let action = match program {
        "useradd" => "user-added",
        "userdel" => "user-removed",
        "groupadd" => "group-added",
        "groupdel" => "group-removed",
        _ => "user-changed",
    };
    is(event, "iam", action);
    failed(event);
    let name = rest.split('\'').nth(1).unwrap_or("");
    if program.starts_with("group") {
        put_text(event, "group", name);
    } else {
        user(event, name);
    }
    put_text(event, "reason", rest.rsplit_once("', ").map_or("", |(_, why)| why));
}

/// `'alice'` and `'sudo'` of `add 'alice' to group 'sudo'`.
fn member<'m>(verb: &str, group: &str, shadow: &str, message: &'m str) -> Option<(&'m str, &'m str)> {
    let rest = message.strip_prefix(verb)?;
    let (name, group) = rest.split_once(group).or_else(|| rest.split_once(shadow))?;
    Some((unquoted(name), unquoted(group)))
}

/// `'staff'` of `group 'staff' removed`.
fn group_removed(message: &str) -> Option<&str> {
    message.strip_prefix("group ")?.split_once(" removed").map(|(name, _)| name)
}

/// `'alice' password`, `'alice' shell from '/bin/sh' to '/bin/bash'`
fn changed(rest: &str, event: &mut Event) {
    let Some((_, what)) = rest.split_once("' ") else { return };
    let action = if what.starts_with("password") { "password-changed" } else { "user-changed" };
    done(event, action);
    user(event, quoted_first(rest));
    put_text(event, "change", what);
}

/// `alice added by root to group sudo`, `alice removed by root from group sudo`
fn by_gpasswd(rest: &str, event: &mut Event) {
    let (name, rest, action, place) = match (rest.split_once(" added by "), rest.split_once(" removed by ")) {
        (Some((name, rest)), _) => (name, rest, "user-added-to-group", " to group "),
        (None, Some((name, rest))) => (name, rest, "user-removed-from-group", " from group "),
        (None, None) => return,
    };
    let Some((by, group)) = rest.split_once(place) else { return };
    done(event, action);
    user(event, unquoted(name));
    put_text(event, "by_user", by);
    put_text(event, "group", unquoted(group));
}

fn quoted_first(text: &str) -> &str {
    text.split('\'').nth(1).unwrap_or_else(|| text.split(' ').next().unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::super::tests::said;

    #[test]
    fn a_new_user_comes_with_ids_home_and_shell() {
        assert_eq!(
            said(
                "useradd",
                "new user: name=sysupd, UID=1002, GID=1002, home=/root, shell=/bin/bash, from=/dev/pts/2"
            ),
            r#"iam user-added success user=sysupd {"uid":"1002","gid":"1002","home":"/root","shell":"/bin/bash","tty":"/dev/pts/2"}"#
        );
        assert_eq!(
            said("useradd", "failed adding user 'bob', exit code: 9"),
            r#"iam user-added failure user=bob {"reason":"exit code: 9"}"#
        );
    }

    #[test]
    fn groups_and_their_members_are_followed() {
        assert_eq!(
            said("groupadd", "new group: name=ops, GID=1500"),
            r#"iam group-added success {"group":"ops","gid":"1500"}"#
        );
        assert_eq!(
            said("groupadd", "group added to /etc/group: name=ops, GID=1500"),
            r#"iam group-added success {"group":"ops","gid":"1500"}"#
        );
        assert_eq!(
            said("usermod", "add 'alice' to shadow group 'sudo'"),
            r#"iam user-added-to-group success user=alice {"group":"sudo"}"#
        );
        assert_eq!(
            said("gpasswd", "user bob added by root to group wheel"),
            r#"iam user-added-to-group success user=bob {"by_user":"root","group":"wheel"}"#
        );
        assert_eq!(
            said("userdel", "removed group 'bob' owned by 'bob'"),
            r#"iam group-removed success {"group":"bob"}"#
        );
        assert_eq!(
            said("groupdel", "group 'ops' removed from /etc/group"),
            r#"iam group-removed success {"group":"ops"}"#
        );
    }

    #[test]
    fn changes_to_an_account_say_what_changed() {
        assert_eq!(
            said("usermod", "change user 'alice' shell from '/bin/sh' to '/bin/bash'"),
            r#"iam user-changed success user=alice {"change":"shell from '/bin/sh' to '/bin/bash'"}"#
        );
        assert_eq!(
            said("usermod", "change user 'alice' password"),
            r#"iam password-changed success user=alice {"change":"password"}"#
        );
        assert_eq!(
            said("usermod", "change user name 'a' to 'b'"),
            r#"iam user-renamed success user=a {"new_name":"b"}"#
        );
        assert_eq!(said("usermod", "lock user 'alice' password"), "iam password-locked success user=alice");
        assert_eq!(said("userdel", "delete user 'alice'"), "iam user-removed success user=alice");
        assert_eq!(
            said("passwd", "password for 'alice' changed by 'root'"),
            r#"iam password-changed success user=alice {"by_user":"root"}"#
        );
        assert_eq!(
            said("chsh", "changed user 'alice' shell to '/bin/zsh'"),
            r#"iam user-changed success user=alice {"change":"shell to '/bin/zsh'"}"#
        );
    }
}
