//! Events to measure with: what customers of a web shop with branches do. The same seed gives the
//! same events, byte for byte.

use std::fmt::Write;

use crate::{
    cli::bench::{
        random::Random,
        words::{AGENTS, CITIES, CURRENCIES, LANGUAGES, PRODUCTS, REFERRERS, SECTIONS},
    },
    model::Timestamp,
};

/// What happens, and how often of a thousand.
const TYPES: [(Kind, &str, u64); 12] = [
    (Kind::Page, "web.webpagedetails.pageViews", 450),
    (Kind::Click, "web.webinteraction.linkClicks", 180),
    (Kind::Commerce("productViews"), "commerce.productViews", 120),
    (Kind::Commerce("productListAdds"), "commerce.productListAdds", 70),
    (Kind::Place("poiEntries"), "location.entry", 40),
    (Kind::Place("poiExits"), "location.exit", 30),
    (Kind::Commerce("productListViews"), "commerce.productListViews", 30),
    (Kind::Order("checkouts"), "commerce.checkouts", 30),
    (Kind::Order("purchases"), "commerce.purchases", 25),
    (Kind::Page, "application.launch", 15),
    (Kind::Commerce("productListRemovals"), "commerce.productListRemovals", 7),
    (Kind::Loyalty, "loyalty.pointsGained", 3),
];

#[derive(Clone, Copy)]
enum Kind {
    Page,
    Click,
    Commerce(&'static str),
    Order(&'static str),
    Place(&'static str),
    Loyalty,
}

const PERSONS: usize = 50_000;
/// A new crowd of `PERSONS` after as many events.
const CROWD_EVENTS: u64 = 200_000;
/// Zipf's exponent: the busiest person has some 2.5 % of the events.
const SKEW: f64 = 0.8;
/// Of a hundred events, how many carry each identity besides the ECID: 1.95 identities in all.
const WITH_EMAIL: u64 = 60;
const WITH_CUSTOMER: u64 = 35;
/// 2026-01-01T00:00:00Z.
const FIRST_MILLISECOND: i64 = 1_767_225_600_000;
/// Events follow each other within this time.
const PAUSE_MILLISECONDS: u64 = 140;

/// An endless row of events.
pub(crate) struct Generator {
    random: Random,
    seed: u64,
    /// Sums of the persons' weights.
    weights: Vec<f64>,
    milliseconds: i64,
    /// Events so far, when the number of persons grows with them.
    growing: Option<u64>,
    /// Who the latest event is about.
    identities: Vec<(&'static str, String)>,
}

/// Everything about a person follows from the rank and the seed.
struct Person {
    ecid: String,
    email: String,
    customer: String,
    agent: (&'static str, &'static str, &'static str, &'static str, &'static str),
    city: (&'static str, &'static str, &'static str, &'static str, &'static str),
    language: &'static str,
    ip: String,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=PERSONS).map(|rank| {
            #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
            let weight = (rank as f64).powf(-SKEW);
            sum += weight;
            sum
        });
        let weights = weights.collect();
        Self {
            random: Random(seed),
            seed,
            weights,
            milliseconds: FIRST_MILLISECOND,
            growing: None,
            identities: Vec::new(),
        }
    }

    /// As many persons per event, however many events: every so often another crowd joins those who
    /// are there, and all crowds are equally busy from then on.
    pub(crate) fn growing(seed: u64) -> Self {
        Self { growing: Some(0), ..Self::new(seed) }
    }

    /// Whom the latest event is about: namespace and id.
    pub(crate) fn identities(&self) -> &[(&'static str, String)] {
        &self.identities
    }

    /// The next event, one line of JSON without the line break.
    pub(crate) fn next_event(&mut self) -> String {
        let person = self.person();
        self.milliseconds += i64::try_from(self.random.below(PAUSE_MILLISECONDS)).unwrap_or(0);
        let (kind, name) = self.kind();
        let mut event = String::with_capacity(2048);
        // Writing to a string cannot fail.
        let _ = self.write_event(&mut event, &person, kind, name);
        event
    }

    fn person(&mut self) -> Person {
        let most = self.weights.last().copied().unwrap_or(1.0);
        let point = self.random.fraction() * most;
        let rank = self.weights.partition_point(|sum| *sum < point) as u64 + self.crowd();
        let mut own = Random(self.seed ^ (rank + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let nineteen = 10_u64.pow(19);
        Person {
            ecid: format!("{:019}{:019}", own.below(nineteen), own.below(nineteen)),
            email: format!("person-{rank:05}-{:04x}@mail.example.com", own.below(0x1_0000)),
            customer: format!("C-{:010}", own.below(10_000_000_000)),
            agent: own.pick(&AGENTS),
            city: own.pick(&CITIES),
            language: own.pick(&LANGUAGES),
            ip: format!("203.0.113.{}", own.below(254) + 1),
        }
    }

    /// The rank at which the person's crowd begins.
    fn crowd(&mut self) -> u64 {
        let Some(events) = &mut self.growing else { return 0 };
        let crowds = *events / CROWD_EVENTS + 1;
        *events += 1;
        self.random.below(crowds) * PERSONS as u64
    }

    fn kind(&mut self) -> (Kind, &'static str) {
        let mut left = self.random.below(TYPES.iter().map(|(_, _, weight)| weight).sum());
        for (kind, name, weight) in TYPES {
            if left < weight {
                return (kind, name);
            }
            left -= weight;
        }
        (Kind::Page, "web.webpagedetails.pageViews")
    }

    fn write_event(
        &mut self,
        out: &mut String,
        person: &Person,
        kind: Kind,
        name: &str,
    ) -> std::fmt::Result {
        let time = Timestamp::from_micros(self.milliseconds * 1000);
        let id = self.random.uuid();
        write!(out, r#"{{"_id":"{id}","timestamp":"{time}","eventType":"{name}""#)?;
        out.write_str(r#","producedBy":"self""#)?;
        self.write_identities(out, person)?;
        self.write_environment(out, person, matches!(kind, Kind::Place(_)))?;
        match kind {
            Kind::Page | Kind::Click => self.write_web(out, matches!(kind, Kind::Click))?,
            Kind::Commerce(measure) => {
                self.write_web(out, false)?;
                self.write_products(out, measure, None)?;
            }
            Kind::Order(measure) => {
                self.write_web(out, false)?;
                let order = self.random.below(1_000_000_000);
                self.write_products(out, measure, Some(order))?;
            }
            Kind::Place(measure) => self.write_place(out, person, measure)?,
            Kind::Loyalty => self.write_loyalty(out, person)?,
        }
        self.write_marketing(out)?;
        out.write_char('}')
    }

    fn write_identities(&mut self, out: &mut String, person: &Person) -> std::fmt::Result {
        self.identities.clear();
        self.identities.push(("ECID", person.ecid.clone()));
        write!(
            out,
            r#","identityMap":{{"ECID":[{{"id":"{}","authenticatedState":"ambiguous","primary":true}}]"#,
            person.ecid
        )?;
        let others =
            [("Email", &person.email, WITH_EMAIL), ("CRMID", &person.customer, WITH_CUSTOMER)];
        for (namespace, id, chance) in others {
            if self.random.below(100) < chance {
                write!(
                    out,
                    r#","{namespace}":[{{"id":"{id}","authenticatedState":"authenticated","primary":false}}]"#
                )?;
                self.identities.push((namespace, id.clone()));
            }
        }
        out.write_char('}')
    }

    fn write_environment(
        &mut self,
        out: &mut String,
        person: &Person,
        in_app: bool,
    ) -> std::fmt::Result {
        let (system, device, maker, model, agent) = person.agent;
        let random = &mut self.random;
        let kind = if in_app { "application" } else { "browser" };
        write!(
            out,
            r#","environment":{{"type":"{kind}","operatingSystem":"{system}","operatingSystemVersion":"{}.{}","ipV4":"{}","browserDetails":{{"userAgent":"{agent}","viewportWidth":{},"viewportHeight":{},"acceptLanguage":"{}"}}}}"#,
            random.below(20) + 1,
            random.below(10),
            person.ip,
            random.below(1600) + 360,
            random.below(900) + 600,
            person.language,
        )?;
        write!(
            out,
            r#","device":{{"manufacturer":"{maker}","model":"{model}","type":"{device}","screenWidth":{},"screenHeight":{}}}"#,
            random.below(2200) + 390,
            random.below(1400) + 800,
        )
    }

    fn write_web(&mut self, out: &mut String, click: bool) -> std::fmt::Result {
        let section = self.random.pick(&SECTIONS);
        let (referrer, referrer_kind) = self.random.pick(&REFERRERS);
        let page = self.random.below(100_000);
        let visit = self.random.next() >> 32;
        write!(
            out,
            r#","web":{{"webPageDetails":{{"name":"{section}:{page:05}","URL":"https://shop.example.com/{section}/item-{page:05}.html?visit={visit:08x}","siteSection":"{section}","isHomePage":{},"pageViews":{{"value":1}}}},"webReferrer":{{"URL":"{referrer}","type":"{referrer_kind}"}}"#,
            section == "home",
        )?;
        if click {
            let region = self.random.pick(&["header", "hero", "grid", "footer"]);
            let target = self.random.pick(&SECTIONS);
            write!(
                out,
                r#","webInteraction":{{"name":"link-{}","type":"other","region":"{region}","URL":"https://shop.example.com/{target}","linkClicks":{{"value":1}}}}"#,
                self.random.below(500),
            )?;
        }
        out.write_char('}')
    }

    fn write_products(
        &mut self,
        out: &mut String,
        measure: &str,
        order: Option<u64>,
    ) -> std::fmt::Result {
        let currency = self.random.pick(&CURRENCIES);
        let mut cents_total = 0;
        out.write_str(r#","productListItems":["#)?;
        for place in 0..=self.random.below(2) {
            let quantity = self.random.below(3) + 1;
            let cents = (self.random.below(20_000) + 500) * quantity;
            cents_total += cents;
            let comma = if place > 0 { "," } else { "" };
            write!(
                out,
                r#"{comma}{{"SKU":"SKU-{:06}","name":"{}","quantity":{quantity},"priceTotal":{},"currencyCode":"{currency}","productAddMethod":"product page"}}"#,
                self.random.below(100_000),
                self.random.pick(&PRODUCTS),
                Price(cents),
            )?;
        }
        write!(out, r#"],"commerce":{{"{measure}":{{"value":1}}"#)?;
        if let Some(order) = order {
            let price = Price(cents_total);
            let paid_by = self.random.pick(&["credit_card", "invoice", "transfer"]);
            write!(
                out,
                r#","order":{{"purchaseID":"PO-{order:09}","priceTotal":{price},"currencyCode":"{currency}","payments":[{{"transactionID":"T-{:012}","paymentAmount":{price},"paymentType":"{paid_by}","currencyCode":"{currency}"}}]}}"#,
                self.random.below(1_000_000_000_000),
            )?;
        }
        out.write_char('}')
    }

    fn write_place(
        &mut self,
        out: &mut String,
        person: &Person,
        measure: &str,
    ) -> std::fmt::Result {
        let (country, city, code, latitude, longitude) = person.city;
        let local = Timestamp::from_micros((self.milliseconds + 3_600_000) * 1000);
        let branch = self.random.below(40);
        write!(
            out,
            r#","placeContext":{{"localTime":"{local}","localTimezoneOffset":60,"geo":{{"countryCode":"{country}","city":"{city}","postalCode":"{code}","_schema":{{"latitude":{latitude},"longitude":{longitude}}}}},"POIinteraction":{{"poiDetail":{{"poiID":"shop-{city}-{branch:02}","name":"Store {city} {branch}","category":"retail","locatingType":"gps","geoInteractionDetails":{{"distanceToCenter":{},"deviceGeoAccuracy":{}}}}},"{measure}":{{"value":1}}}}}}"#,
            self.random.below(200),
            self.random.below(30) + 1,
        )
    }

    fn write_loyalty(&mut self, out: &mut String, person: &Person) -> std::fmt::Result {
        write!(
            out,
            r#","loyalty":{{"memberID":"{}","points":{},"pointsGained":{},"tier":"silver","joinDate":"2024-02-29"}}"#,
            person.customer,
            self.random.below(20_000) + 500,
            self.random.below(500),
        )
    }

    fn write_marketing(&mut self, out: &mut String) -> std::fmt::Result {
        write!(
            out,
            r#","marketing":{{"trackingCode":"{}","campaignName":"{}-{:02}"}}"#,
            self.random.pick(&["em-2026-01", "search-brand", "social-reels", "organic"]),
            self.random.pick(&["winter", "spring", "loyalty"]),
            self.random.below(100),
        )
    }
}

/// Cents as a JSON number.
#[derive(Clone, Copy)]
struct Price(u64);

impl std::fmt::Display for Price {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests;
