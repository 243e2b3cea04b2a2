//! The page at `/` in a real browser: Chromium without a window, led by chromedriver.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed test should fail at the line that fails"
)]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

mod browser;
mod server;

use browser::Browser;
use serde_json::{Value, json};
use server::{agent, fresh};

fn names(browser: &Browser) -> Value {
    browser.run("return [...document.querySelectorAll('#rows tr')].map(r => r.dataset.key)")
}

/// Two seconds of a fading tone, as a WAV of 16 bits.
fn tone() -> Vec<u8> {
    let rate = 8000_u32;
    let samples: Vec<i16> = (0..2 * rate)
        .map(|at| {
            let (at, rate) = (f64::from(at), f64::from(rate));
            let swell = (at / rate * 5.0).sin().abs() * (1.0 - at / rate / 2.0);
            ((at * 440.0 * std::f64::consts::TAU / rate).sin() * swell * 30_000.0) as i16
        })
        .collect();
    let data: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + data.len() as u32).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(rate.to_le_bytes());
    wav.extend((rate * 2).to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend((data.len() as u32).to_le_bytes());
    wav.extend(data);
    wav
}

#[test]
fn upload_search_play_delete_and_undo() {
    let (dir, server) = fresh();
    for key in ["scores/opus 1.pdf", "takes/../odd?#%.txt", "takes/2.flac", "notes.txt"] {
        let key = key.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        assert_eq!(server.put(&key.replace(' ', "%20"), b"x"), Some(201));
    }
    let Some(browser) = Browser::start(false) else { return };
    browser.post("/url", &json!({ "url": server.url() }));
    browser.until("document.querySelectorAll('#rows tr').length === 4");

    // Upload by the field for files, and by dropping.
    let file = dir.path().join("tone.wav");
    std::fs::write(&file, tone()).unwrap();
    let field = browser.post("/element", &json!({ "using": "css selector", "value": "#files" }));
    let field = field.as_object().unwrap().values().next().unwrap().as_str().unwrap();
    browser.run("document.getElementById('prefix').value = 'takes/'");
    browser.post(&format!("/element/{field}/value"), &json!({ "text": file.to_str().unwrap() }));
    browser.until("document.querySelector('[data-key=\"takes/tone.wav\"]')");
    browser.run(
        "const data = new DataTransfer();
         data.items.add(new File(['dropped'], 'drop.txt', { type: 'text/plain' }));
         document.body.dispatchEvent(new DragEvent('drop', { bubbles: true, dataTransfer: data }));",
    );
    browser.until("document.querySelector('[data-key=\"takes/drop.txt\"]')");
    assert_eq!(server.get("takes/tone.wav"), Some(tone()));
    assert_eq!(server.get("takes/drop.txt"), Some(b"dropped".to_vec()));
    // A name that is taken is not overwritten unasked.
    browser.post(&format!("/element/{field}/value"), &json!({ "text": file.to_str().unwrap() }));
    browser.until("document.querySelector('#uploads .failed')");
    browser.run("document.querySelector('#uploads .failed button:last-child').click()");

    // Search as one types.
    browser.run("document.getElementById('prefix').value = ''");
    let suffix = browser.post("/element", &json!({ "using": "css selector", "value": "#suffix" }));
    let suffix = suffix.as_object().unwrap().values().next().unwrap().as_str().unwrap();
    browser.post(&format!("/element/{suffix}/value"), &json!({ "text": ".wav" }));
    browser.until("document.querySelectorAll('#rows tr').length === 1");
    assert_eq!(names(&browser), json!(["takes/tone.wav"]));

    // Play, by keyboard: down into the list, then open.
    browser.post(&format!("/element/{suffix}/value"), &json!({ "text": "\u{e015}" }));
    browser.until("document.activeElement.dataset.key === 'takes/tone.wav'");
    let row = browser.post("/element", &json!({ "using": "css selector", "value": "#rows tr" }));
    let row = row.as_object().unwrap().values().next().unwrap().as_str().unwrap();
    browser.post(&format!("/element/{row}/value"), &json!({ "text": "\u{e007}" }));
    browser.until("document.getElementById('audio').currentTime > 0.2");
    browser.until("peaks && peaks.some(p => p > 0.9) && peaks.some(p => p < 0.2)");
    browser.screenshot("playing.png");

    // Delete, think better of it, and delete in earnest.
    browser.run("document.getElementById('close').click()");
    browser.run("document.getElementById('suffix').value = ''; list()");
    browser.until("document.querySelectorAll('#rows tr').length === 6");
    let delete = "document.querySelector('[data-key=\"notes.txt\"] .delete').click()";
    browser.run(delete);
    browser.until("!document.querySelector('[data-key=\"notes.txt\"]')");
    browser.screenshot("deleted.png");
    browser.run("document.querySelector('.undo').click()");
    browser.until("document.querySelector('[data-key=\"notes.txt\"]')");
    assert_eq!(server.get("notes.txt"), Some(b"x".to_vec()));
    browser.run(delete);
    browser.run("document.querySelector('.now').click()");
    browser.until("document.getElementById('counts').textContent.startsWith('5 ')");
    assert_eq!(server.get("notes.txt"), None);

    // Nothing was refused by the page's own policy, and no script failed.
    let mut wrong = browser.complaints();
    wrong.retain(|line| !line["message"].to_string().contains("412"));
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn live_streams_are_followed_and_runs_have_their_picture() {
    let (_dir, server) = fresh();
    let append = |text: &[u8]| {
        let address = format!("{}?append", server.object("logs/live.txt"));
        let answer = agent().post(address).header("content-type", "text/plain").send(text).unwrap();
        assert!(answer.status().is_success());
    };
    append(b"first line\n");
    let run = include_bytes!("../../latency/tests/golden/run-1.json");
    let put =
        agent().put(server.object("runs/one/run.json")).header("content-type", "application/json");
    assert_eq!(put.send(&run[..]).unwrap().status(), 201);
    let Some(browser) = Browser::start(false) else { return };
    browser.post("/url", &json!({ "url": server.url() }));
    browser.until("document.querySelector('[data-key=\"logs/live.txt\"] .live')");

    // The list and the opened text grow with the stream, until it is sealed.
    browser.run("document.querySelector('[data-key=\"logs/live.txt\"]').click()");
    browser.until("document.getElementById('text').textContent === 'first line\\n'");
    append(b"second line\n");
    browser.until("document.getElementById('text').textContent.endsWith('second line\\n')");
    browser.until(
        "document.querySelector('[data-key=\"logs/live.txt\"] .size').textContent === '23 B'",
    );
    browser.screenshot("live.png");
    let sealed = agent().post(format!("{}?seal", server.object("logs/live.txt"))).send_empty();
    assert_eq!(sealed.unwrap().status(), 200);
    browser.until("!document.querySelector('.live')");

    // A run is found among the rest, by keyboard and by its button, and drawn.
    browser.run("document.querySelector('[data-suffix=\"run.json\"]').click()");
    browser.until("document.querySelectorAll('#rows tr').length === 1");
    browser.run("document.querySelector('#rows tr').focus()");
    let row = browser.post("/element", &json!({ "using": "css selector", "value": "#rows tr" }));
    let row = row.as_object().unwrap().values().next().unwrap().as_str().unwrap();
    browser.post(&format!("/element/{row}/value"), &json!({ "text": "\u{e007}" }));
    browser.until("document.querySelectorAll('#run .bin').length > 3");
    let xruns = browser.run("return document.querySelectorAll('#run .xrun').length");
    assert_eq!(xruns, json!(4));
    let told = browser.run("return document.getElementById('run').innerText");
    assert!(told.as_str().unwrap().contains("virtual time"), "{told}");
    // The report's own figure, and its curve above the histogram.
    let worst = browser.run("return document.querySelector('#run .worst').textContent");
    assert_eq!(worst, json!("worst 41.73 µs"));
    assert_eq!(browser.run("return document.querySelectorAll('#run .curve').length"), json!(1));
    browser.screenshot("run.png");
}

/// The head of a WAV in stereo of 16 bits at 48 kHz whose length nobody knows yet, as recorders that
/// write to a pipe make it.
fn endless_head() -> Vec<u8> {
    let mut head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    head.extend(48_000_u32.to_le_bytes());
    head.extend(192_000_u32.to_le_bytes());
    head.extend(b"\x04\0\x10\0data\xff\xff\xff\xff");
    head
}

/// Some seconds of a tone for it.
fn endless_tone(seconds: u32) -> Vec<u8> {
    (0..48_000 * seconds)
        .flat_map(|at| {
            let sample = (f64::from(at) * 440.0 * std::f64::consts::TAU / 48_000.0).sin();
            let sample = ((sample * 9000.0) as i16).to_le_bytes();
            [sample, sample].concat()
        })
        .collect()
}

/// A recording is heard while it is made: what had come when it was opened, and what comes then.
#[test]
fn a_recording_plays_while_it_grows() {
    let (_dir, server) = fresh();
    let append = |bytes: &[u8]| {
        let address = format!("{}?append", server.object("takes/live.wav"));
        let answer = agent().post(address).header("content-type", "audio/wav").send(bytes).unwrap();
        assert!(answer.status().is_success());
    };
    append(&[endless_head(), endless_tone(2)].concat());
    let Some(browser) = Browser::start(false) else { return };
    browser.post("/url", &json!({ "url": server.url() }));
    browser.until("document.querySelector('[data-key=\"takes/live.wav\"] .live')");
    browser.run("document.querySelector('[data-key=\"takes/live.wav\"]').click()");
    let position = "document.getElementById('audio').currentTime";
    browser.until(&format!("{position} > 0.5"));
    // All that there was has two seconds: what plays after them came later.
    for seconds in [3, 5] {
        append(&endless_tone(2));
        browser.until(&format!("{position} > {seconds}"));
    }
    // The button said `play` all the while, since only the waveform's drawing looked after it.
    browser.until("document.getElementById('toggle').ariaLabel === 'Pause'");
    browser.screenshot("live-sound.png");
    let sealed = agent().post(format!("{}?seal", server.object("takes/live.wav"))).send_empty();
    assert_eq!(sealed.unwrap().status(), 200);
    // The rest is played to its end, and nothing broke off.
    browser.until("document.getElementById('audio').ended");
    let (error, at) = (
        browser.run("return document.getElementById('audio').error?.message ?? null"),
        browser.run(&format!("return {position}")),
    );
    assert_eq!(error, Value::Null);
    assert!(at.as_f64().unwrap() > 5.9, "{at}");
}

#[test]
fn it_is_also_dark() {
    let (_dir, server) = fresh();
    server.put("takes/one.wav", &tone());
    let Some(browser) = Browser::start(true) else { return };
    browser.post("/url", &json!({ "url": server.url() }));
    browser.until("document.querySelectorAll('#rows tr').length === 1");
    browser.run("document.querySelector('#rows tr').click()");
    browser.until("peaks");
    browser.screenshot("dark.png");
    let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(20, 24, 23)");
}
