//! Approvals: who is asked, with a token that is good for one answer, about one plan, for some time.
//!
//! Types and logic alone; whoever keeps the jobs keeps a [`Request`] too, and changes it by the answers it accepts. A request holds
//! only hashes of its tokens: who reads the state cannot answer with it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::Approval;

/// What a token stands on.
pub const SECRET_LENGTH: usize = 32;

/// A secret that answers one request once.
pub struct Token(String);

impl Token {
    /// The text to send to whom it is for, and to nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// One question to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The job.
    pub job: String,
    /// The step that waits; `None` for the whole plan.
    pub step: Option<String>,
    /// [`super::Plan::hash`] of what was asked about.
    pub plan: String,
    /// Whose yes counts; empty for anybody's.
    pub from: Vec<String>,
    /// How many must say yes.
    pub count: u32,
    /// Whether it is done where nobody answers in time.
    pub run_on_timeout: bool,
    /// When it was asked, in seconds since 1970.
    pub asked_at: i64,
    /// From when no answer counts any more.
    pub expires_at: i64,
    /// What was answered.
    pub answers: Vec<Answer>,
    tokens: Vec<Issued>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Who gave it.
    pub by: String,
    /// Yes or no.
    pub yes: bool,
    /// When, in seconds since 1970.
    pub at: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issued {
    to: String,
    sha256: String,
    used: bool,
}

/// How a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not all have answered, and there is time.
    Waiting,
    /// It may be done: enough said yes.
    Granted,
    /// It must not be done: one said no.
    Refused,
    /// Nobody answered in time, and the rule says that it is done then.
    RunsUnanswered,
    /// Nobody answered in time, and so it is not done.
    Expired,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// No token of this request.
    #[error("this is no token of this request")]
    UnknownToken,
    /// It answered already.
    #[error("this token has been used")]
    UsedToken,
    /// Too late.
    #[error("the request expired before this answer")]
    Expired,
    /// The plan is another now.
    #[error("the plan is not the one that was asked about")]
    OtherPlan,
    /// Not one of those who are asked.
    #[error("{0:?} is not one of those whose yes counts")]
    NotAsked(String),
    /// One answer each.
    #[error("{0:?} has answered already")]
    AnsweredAlready(String),
    /// It is decided.
    #[error("the request has been answered")]
    Decided,
}

impl Request {
    /// Asks: one token for each name that the rule gives, or as many as there must be answers where it gives none.
    ///
    /// `secret` gives fresh random bytes at each call. The tokens are in no other place than the answer of this call.
    pub fn ask(
        job: &str,
        step: Option<&str>,
        plan: &str,
        approval: &Approval,
        now: i64,
        mut secret: impl FnMut() -> [u8; SECRET_LENGTH],
    ) -> (Self, Vec<(String, Token)>) {
        let names = if approval.from.is_empty() {
            (1..=approval.count).map(|number| format!("approver {number}")).collect()
        } else {
            approval.from.clone()
        };
        let mut tokens = Vec::new();
        let mut issued = Vec::new();
        for to in names {
            let token = Token(URL_SAFE_NO_PAD.encode(secret()));
            issued.push(Issued { to: to.clone(), sha256: hashed(token.expose()), used: false });
            tokens.push((to, token));
        }
        let lasts = i64::try_from(approval.timeout).unwrap_or(i64::MAX);
        let request = Self {
            job: job.to_owned(),
            step: step.map(str::to_owned),
            plan: plan.to_owned(),
            from: approval.from.clone(),
            count: approval.count.max(1),
            run_on_timeout: approval.run_on_timeout,
            asked_at: now,
            expires_at: now.saturating_add(lasts),
            answers: Vec::new(),
            tokens: issued,
        };
        (request, tokens)
    }

    /// The request with the answer of whoever has this token. The token is good for nothing after that.
    ///
    /// `plan` is the hash of the plan as it is now, not as it was asked about.
    ///
    /// # Errors
    ///
    /// [`NotAccepted`]; then the request stays as it is.
    pub fn answered(&self, token: &str, yes: bool, plan: &str, now: i64) -> Result<Self, NotAccepted> {
        let wanted = hashed(token);
        // All are compared, so that the time says nothing.
        let found = self.tokens.iter().enumerate().fold(None, |found, (at, issued)| {
            let same = bool::from(issued.sha256.as_bytes().ct_eq(wanted.as_bytes()));
            if same { Some(at) } else { found }
        });
        let (at, issued) = found
            .and_then(|at| self.tokens.get(at).map(|issued| (at, issued)))
            .ok_or(NotAccepted::UnknownToken)?;
        if issued.used {
            return Err(NotAccepted::UsedToken);
        }
        let mut next = self.taking(&issued.to, yes, plan, now)?;
        if let Some(issued) = next.tokens.get_mut(at) {
            issued.used = true;
        }
        Ok(next)
    }

    /// The request with the answer of somebody who was made sure of otherwise, such as who sits at the console of the service.
    /// One who is not named by the rule counts only where the rule names nobody.
    ///
    /// # Errors
    ///
    /// As [`Request::answered`].
    pub fn answered_by(&self, name: &str, yes: bool, plan: &str, now: i64) -> Result<Self, NotAccepted> {
        if !self.from.is_empty() && !self.from.iter().any(|from| from == name) {
            return Err(NotAccepted::NotAsked(name.to_owned()));
        }
        let mut next = self.taking(name, yes, plan, now)?;
        for issued in next.tokens.iter_mut().filter(|issued| issued.to == name) {
            issued.used = true;
        }
        Ok(next)
    }

    /// How it stands at a second since 1970.
    #[must_use]
    pub fn standing(&self, now: i64) -> Standing {
        if self.answers.iter().any(|answer| !answer.yes) {
            return Standing::Refused;
        }
        if u64::try_from(self.answers.len()).unwrap_or(u64::MAX) >= u64::from(self.count) {
            return Standing::Granted;
        }
        match (now < self.expires_at, self.run_on_timeout) {
            (true, _) => Standing::Waiting,
            (false, true) => Standing::RunsUnanswered,
            (false, false) => Standing::Expired,
        }
    }

    fn taking(&self, name: &str, yes: bool, plan: &str, now: i64) -> Result<Self, NotAccepted> {
        if plan != self.plan {
            return Err(NotAccepted::OtherPlan);
        }
        match self.standing(now) {
            Standing::Waiting => {}
            Standing::Granted | Standing::Refused => return Err(NotAccepted::Decided),
            Standing::RunsUnanswered | Standing::Expired => return Err(NotAccepted::Expired),
        }
        if self.answers.iter().any(|answer| answer.by == name) {
            return Err(NotAccepted::AnsweredAlready(name.to_owned()));
        }
        let mut next = self.clone();
        next.answers.push(Answer { by: name.to_owned(), yes, at: now });
        Ok(next)
    }
}

fn hashed(token: &str) -> String {
    custody::sha256(token.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(from: &[&str], count: u32, run_on_timeout: bool) -> (Request, Vec<(String, Token)>) {
        let from = from.iter().map(|name| (*name).to_owned()).collect();
        let approval = Approval { from, count, timeout: 600, run_on_timeout };
        let mut next = 0;
        Request::ask("J000017", Some("isolate"), "hash", &approval, 1_000, || {
            next += 1;
            [next; SECRET_LENGTH]
        })
    }

    #[test]
    fn a_token_answers_once_about_one_plan_and_not_after_its_time() {
        let (request, tokens) = ask(&["ada", "bo"], 2, false);
        let [(_, ada), (_, bo)] = tokens.as_slice() else { panic!("two tokens") };
        assert_eq!(request.answered("x", true, "hash", 1_001), Err(NotAccepted::UnknownToken));
        assert_eq!(request.answered(ada.expose(), true, "other", 1_001), Err(NotAccepted::OtherPlan));
        assert_eq!(request.answered(ada.expose(), true, "hash", 1_600), Err(NotAccepted::Expired));
        let one = request.answered(ada.expose(), true, "hash", 1_599).unwrap();
        assert_eq!(one.standing(1_599), Standing::Waiting);
        assert_eq!(one.answered(ada.expose(), true, "hash", 1_599), Err(NotAccepted::UsedToken));
        assert_eq!(one.standing(1_600), Standing::Expired);
        let both = one.answered(bo.expose(), true, "hash", 1_599).unwrap();
        assert_eq!((both.standing(1_599), both.standing(9_999)), (Standing::Granted, Standing::Granted));
    }

    #[test]
    fn one_no_is_enough() {
        let (request, tokens) = ask(&["ada", "bo"], 2, true);
        let refused = request.answered(tokens[1].1.expose(), false, "hash", 1_001).unwrap();
        assert_eq!(
            (refused.standing(1_001), refused.standing(9_999)),
            (Standing::Refused, Standing::Refused)
        );
        assert_eq!(refused.answered(tokens[0].1.expose(), true, "hash", 1_002), Err(NotAccepted::Decided));
    }

    #[test]
    fn silence_is_what_the_rule_says_it_is() {
        assert_eq!(ask(&[], 1, true).0.standing(1_600), Standing::RunsUnanswered);
        assert_eq!(ask(&[], 1, false).0.standing(1_600), Standing::Expired);
    }

    #[test]
    fn nobody_answers_for_two() {
        let (request, _) = ask(&["ada", "bo"], 2, false);
        assert_eq!(request.answered_by("eve", true, "hash", 1_001), Err(NotAccepted::NotAsked("eve".into())));
        let one = request.answered_by("ada", true, "hash", 1_001).unwrap();
        assert_eq!(
            one.answered_by("ada", true, "hash", 1_001),
            Err(NotAccepted::AnsweredAlready("ada".into()))
        );
    }

    #[test]
    fn neither_state_nor_debug_text_has_a_token() {
        let (request, tokens) = ask(&[], 1, false);
        let kept = format!("{request:?}{tokens:?}{}", serde_json::to_string(&request).unwrap());
        assert!(!kept.contains(tokens[0].1.expose()), "{kept}");
        let back: Request = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
        assert_eq!(back, request);
    }
}
