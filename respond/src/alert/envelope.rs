//! What alerts are wrapped in on their way: Amazon SNS, Google Pub/Sub, Amazon EventBridge.

use base64::Engine as _;
use serde_json::Value;

use super::fields::Fields;
use super::{Unparsed, strict_json};

/// What an EventBridge event says besides its detail; empty where there was none.
#[derive(Debug, Clone, Default)]
pub(super) struct Event {
    /// Of this delivery, not of the alert.
    pub(super) id: String,
    pub(super) source: String,
    pub(super) detail_type: String,
    /// What a person pressed, where it is a custom action of Security Hub.
    pub(super) action: String,
}

/// Takes SNS and Pub/Sub envelopes off, and EventBridge's too where the reader asks for it.
///
/// # Errors
///
/// [`Unparsed`] when an envelope holds no acceptable JSON, or is about the subscription itself.
pub(super) fn open(body: Value, event_bridge: bool) -> Result<(Event, Value), Unparsed> {
    let mut body = body;
    // SNS may carry what Pub/Sub carried, but nothing is wrapped without end.
    for _ in 0..2 {
        match wrapped(&body)? {
            Some(within) => body = within,
            None => break,
        }
    }
    if !event_bridge {
        return Ok((Event::default(), body));
    }
    let fields = Fields::of(&body);
    let (detail_type, detail) = (fields.text("detail-type"), fields.at("detail"));
    if detail_type.is_empty() || !detail.value().is_object() {
        return Ok((Event::default(), body));
    }
    let event = Event {
        id: fields.text("id"),
        source: fields.text("source"),
        action: if detail_type.ends_with("Custom Action") {
            detail.text("actionName")
        } else {
            String::new()
        },
        detail_type,
    };
    Ok((event, detail.value().clone()))
}

fn wrapped(body: &Value) -> Result<Option<Value>, Unparsed> {
    let fields = Fields::of(body);
    let text = |path| body.get(path).and_then(Value::as_str);
    if let (Some(kind), Some(_)) = (text("Type"), text("TopicArn")) {
        return match (kind, text("Message")) {
            ("Notification", Some(message)) => strict_json::read(message.as_bytes())
                .map(Some)
                .map_err(|why| Unparsed(format!("SNS notification, `Message`: {why}"))),
            (kind, _) => {
                Err(Unparsed(format!("a message of SNS about itself: {}", super::fields::line(kind))))
            }
        };
    }
    if body.get("subscription").is_some()
        && let Some(data) = fields.at("message/data").value().as_str()
    {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data)
            .map_err(|_| Unparsed("Pub/Sub push, `message.data` is no base64".to_owned()))?;
        return strict_json::read(&bytes)
            .map(Some)
            .map_err(|why| Unparsed(format!("Pub/Sub push, `message.data`: {why}")));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_within_a_notification_is_taken_out_of_both() {
        let event = json!({"id": "e", "detail-type": "T", "source": "aws.x", "detail": {"a": 1}});
        let sns = json!({"Type": "Notification", "TopicArn": "arn:x", "Message": event.to_string()});
        let (event, detail) = open(sns.clone(), true).unwrap();
        assert_eq!(
            (event.id.as_str(), event.source.as_str(), event.detail_type.as_str()),
            ("e", "aws.x", "T")
        );
        assert_eq!(detail, json!({"a": 1}));
        assert_eq!(open(sns, false).unwrap().1["detail-type"], "T");
    }

    #[test]
    fn a_message_that_hides_a_doubled_key_is_refused() {
        let sns = json!({"Type": "Notification", "TopicArn": "arn:x", "Message": "{\"id\":1,\"id\":2}"});
        assert!(open(sns, true).unwrap_err().0.contains("twice"));
    }

    #[test]
    fn a_subscription_is_no_alert() {
        let sns =
            json!({"Type": "SubscriptionConfirmation", "TopicArn": "arn:x", "SubscribeURL": "https://x"});
        assert!(open(sns, true).unwrap_err().0.contains("SubscriptionConfirmation"));
    }

    #[test]
    fn a_push_of_pub_sub_is_decoded() {
        let push = json!({"message": {"data": "eyJhIjoxfQ==", "messageId": "1"}, "subscription": "s"});
        assert_eq!(open(push, false).unwrap().1, json!({"a": 1}));
        assert!(open(json!({"message": {"data": "%"}, "subscription": "s"}), false).is_err());
    }
}
