// What the page does beyond links and forms: the host's colours, live updates, writes as JSON, arrow keys in the calendar.
(() => {
  "use strict";
  const root = document.documentElement;
  const framed = window.parent !== window;

  // Airflow's dark mode is a class on its own page, which a frame does not see.
  try {
    const outer = framed && window.parent.document.documentElement;
    if (outer) {
      const copy = () => {
        for (const name of ["dark", "light"]) root.classList.toggle(name, outer.classList.contains(name));
        const look = outer.classList.contains("dark") ? "dark" : "light";
        for (const report of document.querySelectorAll("[data-look]")) {
          const name = report.localName === "iframe" ? "src" : "href"; // a report has no script: its address says it
          const place = `${report.getAttribute(name).split("?")[0]}?look=${look}`;
          if (report.getAttribute(name) !== place) report.setAttribute(name, place);
        }
      };
      new MutationObserver(copy).observe(outer, { attributes: true, attributeFilter: ["class"] });
      document.addEventListener("DOMContentLoaded", copy);
      copy();
    }
  } catch {
    // A frame of another origin keeps its colours to itself: the system's hold.
  }

  // Airflow's frame blocks links that leave it, so its own document follows them.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-out]");
    if (!link || !framed) return;
    event.preventDefault();
    const outside = window.parent.document.createElement("a");
    outside.href = link.href;
    outside.target = link.dataset.out === "_blank" ? "_blank" : "_self";
    outside.rel = "noopener";
    window.parent.document.body.append(outside);
    outside.click();
    outside.remove();
  });

  const local = (event) => {
    const time = event.target.closest?.("time[datetime]");
    if (time) time.title = new Date(time.dateTime).toLocaleString([], { dateStyle: "full", timeStyle: "long" });
  };
  document.addEventListener("mouseover", local);

  const say = (words, bad) => {
    const place = document.getElementById("said");
    place.hidden = false;
    place.classList.toggle("bad", Boolean(bad));
    place.textContent = words;
  };

  // A write is JSON of the same origin: what another site's form cannot send.
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-write]");
    if (!form) return;
    event.preventDefault();
    const buttons = form.querySelectorAll("button");
    const asleep = [...buttons].map((button) => button.disabled);
    const body = Object.fromEntries(new FormData(form, event.submitter));
    buttons.forEach((button) => (button.disabled = true));
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(body),
      });
      const said = await answer.json();
      if (answer.ok) {
        sessionStorage.setItem("gangplan.said", said.message);
        location.reload();
        return;
      }
      say(typeof said.detail === "string" ? said.detail : JSON.stringify(said.detail), true);
    } catch (error) {
      say(`The answer did not arrive: ${error.message}. Try again.`, true);
    }
    buttons.forEach((button, index) => (button.disabled = asleep[index]));
  });

  // The calendar is one stop of the Tab key; arrows move within it.
  const bars = () => [...document.querySelectorAll("#gantt a")];
  let current = "";
  const tame = () => {
    const all = bars();
    const chosen = all.find((bar) => bar.getAttribute("href") === current) ?? all[0];
    for (const bar of all) bar.setAttribute("tabindex", bar === chosen ? "0" : "-1");
  };
  const box = (bar) => bar.getBoundingClientRect();
  const nearest = (all, from, down) => {
    const here = box(from);
    let best = null;
    for (const bar of all) {
      const there = box(bar);
      const off = down ? there.top - here.top : here.top - there.top;
      if (off < 2) continue;
      const distance = off * 4 + Math.abs(there.left - here.left);
      if (!best || distance < best.distance) best = { bar, distance };
    }
    return best?.bar;
  };
  document.addEventListener("keydown", (event) => {
    const from = event.target.closest?.("#gantt a");
    if (!from) return;
    const all = bars();
    const at = all.indexOf(from);
    const to = {
      ArrowRight: () => all[at + 1],
      ArrowLeft: () => all[at - 1],
      ArrowDown: () => nearest(all, from, true),
      ArrowUp: () => nearest(all, from, false),
      Home: () => all[0],
      End: () => all[all.length - 1],
    }[event.key]?.();
    if (!to) return;
    event.preventDefault();
    current = to.getAttribute("href");
    tame();
    to.focus();
  });
  document.addEventListener("focusin", (event) => {
    const bar = event.target.closest?.("#gantt a");
    const place = document.getElementById("told");
    if (!bar || !place) return;
    current = bar.getAttribute("href");
    place.textContent = bar.querySelector("title").textContent;
  });

  document.addEventListener("DOMContentLoaded", () => {
    tame();
    const said = sessionStorage.getItem("gangplan.said");
    if (said) say(said);
    sessionStorage.removeItem("gangplan.said");
    document.body.addEventListener("htmx:after:swap", tame);
    if (!document.querySelector("#main[hx-get]")) return;
    const events = new EventSource(document.body.dataset.events);
    let told = null;
    events.addEventListener("change", (event) => {
      if (told !== null && told !== event.data) document.body.dispatchEvent(new Event("ledger"));
      told = event.data;
    });
    addEventListener("pagehide", () => events.close());
  });
})();
