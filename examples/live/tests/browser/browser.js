// The page in a real browser: `node --test`, with LIVE_BINARY and, for pictures, LIVE_SCREENSHOTS.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test, after } from "node:test";
import { chromium } from "playwright-core";

const binary = process.env.LIVE_BINARY;
const folder = process.env.LIVE_SCREENSHOTS;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
after(() => browser.close());

async function serve(listen = "127.0.0.1:0", ...args) {
  const server = spawn(binary, ["--listen", listen, ...args], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [line] = await once(server.stdout, "data");
  const url = line.toString().trim();
  return { url, listen: new URL(url).host, stop: () => {
    const ended = once(server, "exit");
    server.kill("SIGTERM");
    return ended;
  } };
}

async function open(url, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  const errors = [];
  page.on("pageerror", error => errors.push(error));
  await page.goto(url);
  return { page, errors, close: () => context.close() };
}

const state = (page, text) =>
  page.waitForFunction(text => document.getElementById("state").textContent.includes(text), text);
// The first update after a snapshot brings one.
const hasPlace = page => page.waitForFunction(() => place !== "");
const run = async (page, command) => {
  await page.keyboard.press("Escape");
  await page.locator("#command").fill(command);
  await page.keyboard.press("Enter");
};
// The numbers that a pane shows: each once, and in order.
const numbers = (page, job) => page.evaluate(job =>
  [...document.querySelectorAll(`.pane[data-job="${job}"] .log div`)].map(line => Number(line.dataset.n)), job);
const inOrder = numbers => numbers.forEach((n, at) => assert.equal(n, at + 1));

test("the page follows a job, and is resumed when its connection is dropped", async () => {
  const server = await serve();
  const { page, errors, close } = await open(server.url);
  await state(page, "live");
  await page.waitForSelector('.pane[data-job="1"] .log div');
  await hasPlace(page);
  const before = (await numbers(page, 1)).length;
  await page.locator("#drop").click();
  await state(page, "resumed, nothing missed");
  await page.waitForFunction(before =>
    document.querySelectorAll('.pane[data-job="1"] .log div').length > before + 10, before);
  inOrder(await numbers(page, 1));

  await run(page, "seq 1 20000");
  await page.waitForFunction(() =>
    document.querySelector('.pane[data-job="2"] footer')?.textContent.includes("20,000 lines, the last 5,000 shown, complete"));
  const last = await numbers(page, 2);
  assert.deepEqual([last.length, last[0], last.at(-1)], [5000, 15001, 20000]);

  await run(page, "rm -rf /");
  await page.waitForFunction(() => document.getElementById("said").textContent.includes("not on the list"));
  assert.deepEqual(errors, []);
  await close();
  await server.stop();
});

test("the page starts over by itself when the server is restarted", async () => {
  const server = await serve();
  const { page, errors, close } = await open(server.url);
  await state(page, "live");
  await run(page, "seq 1 10");
  await page.waitForSelector('.pane[data-job="2"] .log div');
  await hasPlace(page);
  await server.stop();
  await state(page, "connection lost");
  const again = await serve(server.listen);
  await state(page, "started over, as the server was restarted");
  await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 1);
  await page.waitForFunction(() => !document.querySelector('.pane[data-job="2"]'));
  await page.waitForSelector('.pane[data-job="1"] .log div');
  inOrder(await numbers(page, 1));
  assert.deepEqual(errors, []);
  await close();
  await again.stop();
});

// What has the focus, in words.
const focused = page => page.evaluate(() => {
  const at = document.activeElement;
  const job = at.closest("[data-job]")?.dataset.job;
  const name = at.id || at.textContent.slice(0, 20) || at.getAttribute("role");
  return at.matches(".log") ? `log ${job}` : at.closest("tr") ? `row ${job}` : name;
});

test("everything can be done by keyboard", async () => {
  const server = await serve();
  const { page, errors, close } = await open(server.url);
  await page.waitForSelector('.pane[data-job="1"] .log div');
  await page.keyboard.press("/");
  await page.keyboard.type("echo by keyboard");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector('.pane[data-job="2"]')?.textContent.includes("by keyboard"));
  await page.keyboard.press("Escape");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => !document.querySelector('.pane[data-job="2"]'));
  await page.keyboard.press("p");
  await page.waitForFunction(() => document.querySelector(".pane footer").textContent.includes("paused"));
  await page.keyboard.press("p");
  await page.waitForFunction(() => !document.querySelector(".pane footer").textContent.includes("paused"));

  // The order of Tab is that of the page, and what has the focus shows it.
  await page.locator("#drop").focus();
  const order = [];
  for (let at = 0; at < 8; at++) {
    order.push(await focused(page));
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => {
      const at = document.activeElement;
      const of = at.closest("tr") ? getComputedStyle(at, "::after") : getComputedStyle(at);
      return of.outlineStyle;
    });
    if (at < 7) assert.notEqual(outline, "none", order.at(-1));
  }
  assert.deepEqual(order, ["drop", "command", "Run", "row 2", "row 1", "Pause", "✕", "log 1"]);

  // Opening and closing leaves the focus on the row, although the rows come anew.
  const row = page.locator('#rows tr[data-job="2"] button');
  await row.focus();
  for (const [key, expanded] of [["Enter", "true"], ["Enter", "false"], ["Space", "true"]]) {
    await page.keyboard.press(key);
    await page.waitForFunction(expanded =>
      document.querySelector('#rows tr[data-job="2"] button').getAttribute("aria-expanded") === expanded, expanded);
    await page.waitForFunction(() => source.readyState === EventSource.OPEN && parts === null);
    assert.equal(await focused(page), "row 2");
  }
  await page.waitForFunction(() => document.querySelector('.pane[data-job="2"] .log div'));
  await page.locator('.pane[data-job="2"] .log').focus();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator('.pane[data-job="2"]').count(), 0);
  assert.equal(await focused(page), "row 2");
  assert.deepEqual(errors, []);
  await close();
  await server.stop();
});

test("a job that the server removes leaves the table, and its open output stays readable", async () => {
  const server = await serve("127.0.0.1:0", "--keep", "1");
  const { page, errors, close } = await open(server.url);
  await state(page, "live");
  await run(page, "echo first");
  await page.waitForFunction(() => document.querySelector('.pane[data-job="2"] footer')?.textContent.includes("complete"));
  await run(page, "echo second");
  await page.waitForFunction(() => document.querySelector('.pane[data-job="2"] footer').textContent.includes("removed"));
  assert.equal(await page.locator('#rows tr[data-job="2"]').count(), 0);
  assert.ok((await page.locator('.pane[data-job="2"] .log').textContent()).includes("first"));
  // The others are followed as before.
  const before = (await numbers(page, 1)).length;
  await page.waitForFunction(before =>
    document.querySelectorAll('.pane[data-job="1"] .log div').length > before + 10, before);
  inOrder(await numbers(page, 1));
  assert.deepEqual(errors, []);
  await close();
  await server.stop();
});

test("texts have the contrast of WCAG AA, and nothing moves for who does not want it", async () => {
  const server = await serve();
  for (const colorScheme of ["light", "dark"]) {
    const { page, close } = await open(server.url, { colorScheme, reducedMotion: "reduce" });
    await page.waitForSelector("#rows .running");
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    const color = await page.evaluate(() => {
      const probe = document.body.appendChild(document.createElement("i"));
      const names = ["page", "card", "log", "pick", "text", "soft", "accent", "on-accent", "good", "bad", "warn", "edge"];
      return Object.fromEntries(names.map(name => {
        probe.style.color = `var(--${name})`;
        return [name, getComputedStyle(probe).color.match(/\d+/g).map(Number)];
      }));
    });
    const light = name => color[name].map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
      .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const atLeast = (least, name, ground) => {
      const [low, high] = [light(name), light(ground)].sort((a, b) => a - b);
      const ratio = (high + 0.05) / (low + 0.05);
      assert.ok(ratio >= least, `${colorScheme}: ${name} on ${ground} has ${ratio.toFixed(2)}`);
    };
    for (const ground of ["page", "card", "log", "pick"]) {
      for (const name of ["text", "soft", "accent", "good", "bad", "warn"]) atLeast(4.5, name, ground);
    }
    atLeast(4.5, "on-accent", "accent");
    for (const ground of ["page", "card", "log"]) atLeast(3, "edge", ground);
    await close();
  }
  await server.stop();
});

test("it fits a phone and a desktop, light and dark", async () => {
  const server = await serve();
  const first = await open(server.url);
  await state(first.page, "live");
  for (const command of ["ls -la /usr/bin", "find /usr/share/doc -maxdepth 2", "false", "seq 1 5000"]) {
    await run(first.page, command);
    await first.page.waitForFunction(command =>
      document.querySelector("#rows tr .command button").textContent === command, command);
  }
  for (const width of [390, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
      const { page, errors, close } = await open(server.url, {
        viewport: { width, height: width === 390 ? 844 : 900 }, colorScheme,
      });
      await page.waitForSelector("#rows tr");
      await page.locator('#rows tr[data-job="1"] button').click();
      await page.waitForSelector('.pane[data-job="1"] .log div');
      // So that there is a curve.
      await page.waitForFunction(() => Number(document.getElementById("curve").getAttribute("d")?.length) > 0
        && document.querySelector("#rows").textContent.length > 0);
      if (folder) {
        await page.waitForTimeout(9000);
        await page.screenshot({ path: `${folder}/${width}-${colorScheme}.png`, fullPage: width === 390 });
      }
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${wide} pixels too wide at ${width}`);
      // Words, not only colors.
      const states = await page.locator("#rows .is").allInnerTexts();
      assert.deepEqual([...new Set(states)].sort(), ["failed", "running", "succeeded"]);
      assert.deepEqual(errors, []);
      await close();
    }
  }
  await first.close();
  await server.stop();
});
