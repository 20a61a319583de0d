//! `milepost top`: what goes on, again and again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    cli::{
        args::ClientArgs,
        failure::{Done, Failure},
        lists,
        output::{self, Output, thousands},
        render,
    },
    grpc::{client::Connection, pb},
};

/// Show how subscriptions do and what is appended, live: lag, rates, what waits and why.
///
/// On a terminal the picture is drawn anew each time, until you press ^C. The subscriptions that are furthest behind
/// come first.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// Only these subscriptions; all unless given
    #[arg(value_name = "SUBSCRIPTION")]
    names: Vec<String>,
    /// Seconds from one picture to the next; 1 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// How many pictures; without end unless given
    #[arg(long, value_name = "N")]
    times: Option<u64>,
}

const HEADINGS: [&str; 11] = [
    "SUBSCRIPTION",
    "STATE",
    "LAG",
    "OLDEST",
    "DONE/S",
    "FAILED/S",
    "IN FLIGHT",
    "RETRYING",
    "PARKED",
    "CONSUMERS",
    "BLOCKED BY",
];
/// Clears the terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

pub(crate) async fn run(args: TopArgs) -> Done {
    let connection = args.client.connect().await?;
    let mut output = Output::new(args.client.output);
    let redraws = !output.is_json() && output::width().is_some();
    let mut before = None;
    let mut left = args.times;
    while left != Some(0) {
        let now = Sample::take(&connection, &args.names).await?;
        let picture = Picture::of(before.as_ref(), &now);
        if redraws {
            output.raw(CLEAR.as_bytes())?;
        }
        output.show(&picture.json(), || picture.text(connection.address()))?;
        output.flush()?;
        before = Some(now);
        left = left.map(|it| it - 1);
        if left != Some(0) {
            sleep(Duration::from_secs(args.interval)).await;
        }
    }
    Ok(())
}

/// What the server says at one moment.
struct Sample {
    at: Instant,
    store: pb::GetStatusResponse,
    subscriptions: BTreeMap<String, pb::SubscriptionStatus>,
}

impl Sample {
    async fn take(connection: &Connection, names: &[String]) -> Result<Self, Failure> {
        let store = connection.admin().get_status(pb::GetStatusRequest {}).await?.into_inner();
        let mut client = connection.subscriptions();
        let names = if names.is_empty() {
            let all = lists::all(async |page_token| {
                let request =
                    pb::ListSubscriptionsRequest { page_size: lists::PAGE_SIZE, page_token };
                let page = client.list_subscriptions(request).await?.into_inner();
                Ok((page.subscriptions, page.next_page_token))
            });
            all.await?.into_iter().map(|it| it.name).collect()
        } else {
            names.to_vec()
        };
        let mut subscriptions = BTreeMap::new();
        for name in names {
            let request = pb::GetSubscriptionRequest { name: name.clone() };
            let response = client.get_subscription(request).await?.into_inner();
            subscriptions.insert(name, response.status.unwrap_or_default());
        }
        Ok(Self { at: Instant::now(), store, subscriptions })
    }
}

/// A sample, and what went on since the one before.
struct Picture<'a> {
    store: &'a pb::GetStatusResponse,
    /// Positions that were given, a second.
    appended: f64,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    name: &'a str,
    status: &'a pb::SubscriptionStatus,
    /// Events a second.
    done: f64,
    /// Attempts a second.
    failed: f64,
}

impl<'a> Picture<'a> {
    fn of(before: Option<&Sample>, now: &'a Sample) -> Self {
        let seconds = before.map_or(0.0, |it| now.at.duration_since(it.at).as_secs_f64());
        let rate = |before: Option<u64>, now: u64| match before {
            Some(before) if seconds > 0.0 => per_second(now.saturating_sub(before), seconds),
            _ => 0.0,
        };
        let mut rows: Vec<_> = now
            .subscriptions
            .iter()
            .map(|(name, status)| {
                let earlier = before.and_then(|it| it.subscriptions.get(name));
                Row {
                    name,
                    status,
                    done: rate(earlier.map(|it| it.resolved_total), status.resolved_total),
                    failed: rate(earlier.map(|it| it.failed_total), status.failed_total),
                }
            })
            .collect();
        rows.sort_by(|a, b| {
            b.status.lag_events.cmp(&a.status.lag_events).then_with(|| a.name.cmp(b.name))
        });
        let earlier = before.map(|it| it.store.last_position);
        Self { store: &now.store, appended: rate(earlier, now.store.last_position), rows }
    }

    fn text(&self, address: &str) -> String {
        let store = self.store;
        let full = (store.queue_bytes * 100).checked_div(store.queue_bytes_max).unwrap_or(0);
        let state = store.state().as_str_name().trim_start_matches("STORE_STATE_");
        let head = format!(
            "{address}  {state}  position {}  {} appended/s  {} followers  queue {full} %  disk {} MiB, {} MiB free",
            thousands(store.last_position),
            shown(self.appended),
            thousands(store.followers),
            thousands(store.disk_bytes / 1024 / 1024),
            thousands(store.disk_free_bytes / 1024 / 1024),
        );
        let rows: Vec<_> = self.rows.iter().map(Row::cells).collect();
        format!("{head}\n\n{}", output::table(&HEADINGS, &rows))
    }

    fn json(&self) -> Value {
        json!({
            "last_position": self.store.last_position,
            "appended_per_s": rounded(self.appended),
            "queue_bytes": self.store.queue_bytes,
            "subscriptions": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

impl Row<'_> {
    fn cells(&self) -> Vec<String> {
        let status = self.status;
        let oldest = status.lag.map(|it| format!("{} s", it.seconds)).unwrap_or_default();
        let blocked = status.blocked_lanes.first().map(|it| {
            let lane = it.identity.as_ref().map(render::identity_text);
            let lane = lane.unwrap_or_else(|| "a lane".to_owned());
            format!("{} ({lane}, {} wait)", it.position, thousands(it.waiting))
        });
        vec![
            self.name.to_owned(),
            status.state().as_str_name().to_owned(),
            thousands(status.lag_events),
            oldest,
            shown(self.done),
            shown(self.failed),
            thousands(status.in_flight),
            thousands(status.retrying),
            thousands(status.parked),
            status.consumers.len().to_string(),
            output::printable(&blocked.unwrap_or_default()),
        ]
    }

    fn json(&self) -> Value {
        let status = self.status;
        json!({
            "name": self.name,
            "state": status.state().as_str_name(),
            "lag_events": status.lag_events,
            "lag_seconds": status.lag.map_or(0, |it| it.seconds),
            "done_per_s": rounded(self.done),
            "failed_per_s": rounded(self.failed),
            "in_flight": status.in_flight,
            "retrying": status.retrying,
            "parked": status.parked,
            "consumers": status.consumers.len(),
            "blocked_lanes": status.blocked_lanes.len(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// Whole numbers, unless they would hide that something goes on.
fn shown(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 {
        return format!("{rate:.1}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^53")]
    let whole = rate.round() as u64;
    thousands(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, position: u64, subscriptions: &[(&str, u64, u64)]) -> Sample {
        let status = |lag_events, resolved_total| pb::SubscriptionStatus {
            lag_events,
            resolved_total,
            ..Default::default()
        };
        let store = pb::GetStatusResponse { last_position: position, ..Default::default() };
        let subscriptions =
            subscriptions.iter().map(|it| (it.0.to_owned(), status(it.1, it.2))).collect();
        Sample { at, store, subscriptions }
    }

    #[test]
    fn rates_are_of_the_time_between_two_samples() {
        let at = Instant::now();
        let before = sample(at, 100, &[("a", 5, 10), ("b", 0, 0)]);
        let later = at + Duration::from_secs(2);
        let now = sample(later, 400, &[("a", 1, 13), ("b", 9, 0), ("new", 0, 7)]);
        let picture = Picture::of(Some(&before), &now);
        let rows: Vec<_> =
            picture.rows.iter().map(|it| (it.name, rounded(it.done).to_string())).collect();
        // The one furthest behind comes first.
        assert_eq!(rows, [("b", "0".into()), ("a", "1.5".into()), ("new", "0".into())]);
        let text = picture.text("here");
        assert!(text.contains("150 appended/s"), "{text}");
        assert!(Picture::of(None, &now).text("here").contains("  0 appended/s"));
    }

    #[test]
    fn small_rates_are_not_nothing() {
        let texts = [0.0, 0.04, 1.25, 9.99, 10.4, 12_345.6].map(shown);
        assert_eq!(texts, ["0", "0.0", "1.2", "10.0", "10", "12 346"]);
    }
}
