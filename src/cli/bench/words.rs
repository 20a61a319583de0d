//! What the generated events are made of.

/// Operating system, device, maker, user agent.
pub(super) const AGENTS: [(&str, &str, &str, &str); 4] = [
    (
        "Windows",
        "desktop",
        "Lenovo",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    ),
    (
        "iOS",
        "mobile",
        "Apple",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    ),
    (
        "Android",
        "mobile",
        "Samsung",
        "Mozilla/5.0 (Linux; Android 16; SM-S931B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    ),
    (
        "Linux",
        "desktop",
        "Framework",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    ),
];
pub(super) const LANGUAGES: [&str; 5] = ["de-CH", "en-GB", "fr-FR", "it-IT", "nl-NL"];
pub(super) const SECTIONS: [&str; 8] =
    ["home", "shoes/trail", "jackets", "sale", "account/orders", "search", "help/returns", "bikes"];
pub(super) const REFERRERS: [(&str, &str); 4] = [
    ("https://search.example.org/find?q=trail+shoes+waterproof", "search_engine"),
    ("https://news.example.net/outdoor/2026/ten-hikes-for-the-weekend", "external"),
    ("https://shop.example.com/", "internal"),
    ("https://mail.example.net/read?campaign=spring-2026", "email"),
];
pub(super) const PRODUCTS: [&str; 8] = [
    "Trail shoe",
    "Rain jacket",
    "Merino shirt",
    "Day pack 24 l",
    "Gas stove",
    "Head torch",
    "Climbing rope 60 m",
    "Insulated bottle",
];
/// Country, city, postal code, latitude, longitude.
pub(super) const CITIES: [(&str, &str, &str, &str, &str); 5] = [
    ("CH", "Basel", "4051", "47.5546", "7.5886"),
    ("FR", "Annecy", "74000", "45.8992", "6.1294"),
    ("NL", "Utrecht", "3511", "52.0907", "5.1214"),
    ("IT", "Trento", "38122", "46.0697", "11.1211"),
    ("GB", "Sheffield", "S1 2HE", "53.3811", "-1.4701"),
];
pub(super) const CURRENCIES: [&str; 3] = ["EUR", "CHF", "GBP"];
