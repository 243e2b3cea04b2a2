//! A real browser for tests: Chromium without a window, led by chromedriver. Also used by the tests of
//! the reports, in another package.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed test should fail at the line that fails"
)]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use ureq::Agent;

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent()
}

/// A browser, led over the WebDriver protocol.
pub(crate) struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// `None`, with a line that says so, where there is no Chromium.
    pub(crate) fn start(dark: bool) -> Option<Self> {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let Ok(mut driver) = driver else {
            println!("SKIPPED: no chromedriver (apt-get install chromium chromium-driver)");
            return None;
        };
        let out = BufReader::new(driver.stdout.take().unwrap());
        let port = out.lines().map_while(Result::ok).find_map(|line| {
            line.rsplit_once("on port ")
                .and_then(|(_, port)| port.trim_end_matches('.').parse::<u16>().ok())
                .filter(|&port| port != 0)
        });
        let base = format!("http://127.0.0.1:{}/session", port.unwrap());
        let mut arguments = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--window-size=1100,800",
            "--autoplay-policy=no-user-gesture-required",
        ];
        if dark {
            arguments.push("--force-dark-mode");
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let mut browser = Self { driver, session: base };
        let told = browser.post("", &wanted);
        let id = told["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {told}"));
        browser.session = format!("{}/{id}", browser.session);
        Some(browser)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let mut answer =
            agent().post(format!("{}{path}", self.session)).send(body.to_string()).unwrap();
        let text = answer.body_mut().with_config().limit(1 << 28).read_to_string().unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer.status(), 200, "{path}: {told}");
        told["value"].clone()
    }

    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Asks until the expression is true; the runner's own time limit is the only clock.
    #[track_caller]
    pub(crate) fn until(&self, expression: &str) {
        for _ in 0..1200 {
            if self.run(&format!("return !!({expression})")) == json!(true) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "never came true: {expression}; the page: {}",
            self.run("return document.body.innerText")
        );
    }

    /// Everything that the browser has asked for since this was last called, by address.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "performance" }));
        let lines = log.as_array().unwrap().iter();
        let events = lines.map(|line| {
            let event: Value = serde_json::from_str(line["message"].as_str().unwrap()).unwrap();
            event["message"].clone()
        });
        events
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What went wrong in the page, by the browser's word.
    pub(crate) fn complaints(&self) -> Vec<Value> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        log.as_array().unwrap().iter().filter(|line| line["level"] == "SEVERE").cloned().collect()
    }

    /// The page as wide as this, in pixels, as a telephone would show it.
    pub(crate) fn be_wide(&self, width: u32) {
        let metrics = json!({
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
        self.post("/goog/cdp/execute", &command);
    }

    /// The whole page as a PNG, in the folder that BROWSER_SCREENSHOTS names: only kept for whoever wants
    /// to look.
    pub(crate) fn screenshot(&self, name: &str) {
        let Some(dir) = std::env::var_os("BROWSER_SCREENSHOTS") else { return };
        let command = json!({
            "cmd": "Page.captureScreenshot", "params": { "captureBeyondViewport": true },
        });
        let told = self.post("/goog/cdp/execute", &command);
        let image =
            base64::engine::general_purpose::STANDARD.decode(told["data"].as_str().unwrap());
        std::fs::write(Path::new(&dir).join(name), image.unwrap()).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser that it started.
        let _ = agent().delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
