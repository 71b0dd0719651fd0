"use strict";
// The denoising replay. Texts of models and data sets are set by textContent only.
(() => {
  const root = document.getElementById("replay");
  const at = name => document.getElementById("replay-" + name);
  const REPEAT = /\D\d*/g;
  const LONGEST = 24;
  let data, pair, shown, place, sides, frame, last, timer = null;

  // ---- what is embedded, decoded ------------------------------------------------------------------------------------

  // Levels of a channel: numbers from 0, NaN where nothing was recorded.
  function levels(text) {
    const found = [];
    for (const run of text.match(REPEAT) || []) {
      const level = run[0] === data.unknown ? NaN : data.alphabet.indexOf(run[0]);
      for (let n = run.length > 1 ? Number(run.slice(1)) : 1; n > 0; n--) found.push(level);
    }
    return found;
  }

  // One decoding: for each position its stands; a stand has its levels by channel, one for each of its steps.
  function decoded(trace, ranges) {
    const channels = {};
    for (const name of ["frozen", "violation"]) if (trace[name] !== null) channels[name] = levels(trace[name]);
    for (const [name, text] of Object.entries(trace.channels)) channels[name] = levels(text).map(level => value(level, ranges[name]));
    const tokens = trace.positions.map((position, i) => ({ position, gold: trace.gold[i], stands: [] }));
    const places = new Map(tokens.map(token => [token.position, token]));
    for (let i = 0, start = 0; i < trace.stands.length; i += 5) {
      const [position, first, final, word, taken] = trace.stands.slice(i, i + 5);
      places.get(position).stands.push({ first, final, word, taken: taken === 1, start });
      start += final - first + 1;
    }
    return { ...trace, tokens, channels, freezes: trace.frozen !== null && channels.frozen.some(level => level > 0) };
  }

  function value(level, [low, high]) {
    return low + level / (data.alphabet.length - 1) * (high - low);
  }

  // What a position holds after so many steps: null while it is masked.
  function held(side, token, steps) {
    const step = Math.min(steps, side.steps) - 1;
    const stand = token.stands.find(one => one.first <= step && step <= one.final);
    if (!stand) return null;
    const read = name => side.channels[name] ? side.channels[name][stand.start + step - stand.first] : NaN;
    const done = steps > side.steps;
    return { stand, read, fresh: !done && stand.first === step, taken: !done && stand.taken && stand.final === step,
      frozen: read("frozen") > 0, broken: read("violation") > 0, wrong: token.gold >= 0 && token.gold !== stand.word };
  }

  // ---- words --------------------------------------------------------------------------------------------------------

  function written(word) {
    return data.ends.includes(word) ? "■" : spelled(word);
  }

  function spelled(word) {
    const text = data.words[word];
    if (typeof text === "number") return "#" + text;
    return text === "" ? "∅" : text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥");
  }

  function short(text) {
    const letters = Array.from(text);
    return letters.length > LONGEST ? letters.slice(0, LONGEST - 1).join("") + "…" : text;
  }

  function digits(number) {
    return Number.isNaN(number) ? "not recorded" : String(Number(number.toPrecision(3)));
  }

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function options(select, texts, chosen) {
    select.replaceChildren(...texts.map(([key, text]) => Object.assign(element("option", "", text), { value: key })));
    select.value = chosen;
  }

  // ---- one side -----------------------------------------------------------------------------------------------------

  function build(side, number, problem) {
    const box = at("side-" + number);
    const canvas = element("div", "canvas");
    canvas.setAttribute("role", "list");
    canvas.setAttribute("aria-label", "canvas of " + pair.names[number]);
    side.chips = side.tokens.map((token, i) => chip(side, number, token, i));
    if (side.chips.length) side.chips[0].tabIndex = 0;
    canvas.append(...inPlace(problem.prompt, side.chips));
    side.status = element("p");
    side.broken = element("p");
    const answer = element("pre", "", side.text || "(nothing)");
    answer.tabIndex = 0;
    box.replaceChildren(element("h3", "", (number ? "candidate: " : "baseline: ") + pair.names[number]),
      element("p", "", "score " + digits(side.score) + ", " + side.steps + " steps"), side.status, canvas, side.broken,
      element("h4", "", "Answer"), answer);
  }

  function chip(side, number, token, i) {
    const made = element("span", "token");
    const widest = Math.max(1, ...token.stands.map(stand => Array.from(short(written(stand.word))).length));
    made.setAttribute("role", "listitem");
    made.tabIndex = -1;
    made.style.setProperty("--w", widest);
    made.append(element("span", "word"), element("span", "mark"));
    made.addEventListener("pointerenter", () => tell(side, number, i));
    made.addEventListener("focus", () => {
      side.chips.forEach(other => { other.tabIndex = other === made ? 0 : -1; });
      tell(side, number, i);
      made.setAttribute("aria-label", at("detail").textContent);
    });
    return made;
  }

  // Chips in the holes of a prompt, those that are left over behind it; a prompt without holes stands elsewhere.
  function inPlace(prompt, chips) {
    const pieces = prompt === null ? [""] : prompt.split(data.hole);
    if (pieces.length === 1 || pieces.length - 1 > chips.length) return chips;
    const narrow = prompt.length <= 400;
    const found = [];
    pieces.forEach((piece, i) => {
      for (const text of narrow ? Array.from(piece) : [piece]) {
        found.push(text === "\n" || !narrow ? element("span", "", text) : fixed(text));
      }
      if (i < pieces.length - 1) found.push(chips[i]);
    });
    return found.concat(chips.slice(pieces.length - 1));
  }

  function fixed(text) {
    const made = element("span", "fixed");
    made.append(element("span", "word", text), element("span", "mark"));
    return made;
  }

  function paint(side) {
    const signal = data.signals[at("signal").value];
    const [low, high] = pair.ranges[signal.name] || [0, 0];
    const marksWrong = at("wrong").checked || frame >= side.steps;
    const counts = { standing: 0, fresh: 0, taken: 0, frozen: 0, wrong: 0 };
    const broken = [];
    side.tokens.forEach((token, i) => {
      const made = side.chips[i];
      const now = held(side, token, frame);
      const marks = [];
      made.className = "token";
      if (now === null) {
        made.className = "token mask";
        made.firstChild.textContent = "\u00a0";
        made.style.removeProperty("--u");
      } else {
        counts.standing++;
        const share = high > low ? (now.read(signal.name) - low) / (high - low) : 0;
        made.style.setProperty("--u", Number.isNaN(share) ? 0 : signal.certain === "high" ? 1 - share : share);
        made.firstChild.textContent = short(written(now.stand.word));
        const mark = (on, name, sign) => { if (on) { made.classList.add(name); marks.push(sign); counts[name]++; } };
        mark(now.fresh, "fresh", "+");
        mark(now.taken, "taken", "×");
        mark(now.frozen, "frozen", "*");
        mark(now.wrong && marksWrong, "wrong", "≠");
        if (now.broken) { marks.push("!"); broken.push(token.position); }
      }
      made.lastChild.textContent = marks.join("");
    });
    const parts = [`step ${Math.min(frame, side.steps)} of ${side.steps}${frame >= side.steps ? " (end)" : ""}`, `${counts.standing} of ${side.tokens.length} filled`];
    if (frame > 0 && frame <= side.steps) parts.push(`${counts.fresh} committed`, `${counts.taken} taken back`);
    if (side.freezes) parts.push(`${counts.frozen} frozen`);
    if (marksWrong && side.tokens.some(token => token.gold >= 0)) parts.push(`${counts.wrong} wrong`);
    side.status.textContent = parts.join(" · ");
    side.broken.hidden = side.violation === null;
    side.broken.textContent = broken.length
      ? `Breaks the constraint: ${broken.length} token${broken.length > 1 ? "s" : ""}, at ${broken.slice(0, 12).join(", ")}${broken.length > 12 ? ", …" : ""}`
      : "No token breaks the constraint.";
    return `${side === sides[0] ? "baseline" : "candidate"}: ${counts.fresh} committed, ${counts.taken} taken back`;
  }

  function tell(side, which, i) {
    const token = side.tokens[i];
    const now = held(side, token, frame);
    const parts = [`${which ? "candidate" : "baseline"}, position ${token.position}`];
    if (now === null) parts.push("masked");
    else {
      parts.push(`token “${spelled(now.stand.word)}”`, `committed at step ${now.stand.first + 1}`);
      if (now.stand.taken && frame > now.stand.first) parts.push(`taken back at step ${now.stand.final + 1}`);
      for (const signal of data.signals) {
        const read = now.read(signal.name);
        if (!Number.isNaN(read)) parts.push(`${signal.label} ${digits(read)}${signal.unit === "nats" ? " nats" : ""}`);
      }
      if (now.frozen) parts.push("frozen");
      if (now.broken) parts.push("breaks the constraint");
    }
    if (token.gold >= 0) parts.push(`expected “${spelled(token.gold)}”` + (now === null ? "" : now.wrong ? " (wrong)" : " (right)"));
    at("detail").textContent = parts.join(" · ");
    side.told = i;
    sides.forEach(other => { if (other !== side) other.told = null; });
  }

  // ---- where we are -------------------------------------------------------------------------------------------------

  function goto(step) {
    frame = Math.max(0, Math.min(last, step));
    at("slider").value = frame;
    const said = sides.map(paint);
    at("told").replaceChildren(`step ${frame} of ${last}`, element("span", "unseen", `. ${said.join("; ")}`));
    sides.forEach((side, i) => { if (side.told !== null && side.told !== undefined) tell(side, i, side.told); });
    at("first").disabled = at("back").disabled = frame === 0;
    at("last").disabled = at("forward").disabled = frame === last;
    if (frame === last) pause();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    at("told").setAttribute("aria-live", "polite");
    at("play").textContent = "play";
  }

  function play() {
    if (timer !== null) return pause();
    if (frame === last) goto(0);
    at("play").textContent = "pause";
    at("told").setAttribute("aria-live", "off");
    timer = setInterval(() => goto(frame + 1), Math.max(90, Math.min(700, 12000 / last)));
  }

  function open(index) {
    pause();
    place = Math.max(0, Math.min(shown.length - 1, index));
    at("problem").value = place;
    at("previous").disabled = place <= 0;
    at("next").disabled = place >= shown.length - 1;
    const entry = pair.problems[shown[place]];
    const problem = data.problems[entry[0]];
    at("prompt").textContent = problem.prompt === null ? "(not recorded)" : problem.prompt;
    at("target").textContent = problem.target === null ? "(not recorded)" : problem.target || "(nothing)";
    sides = [entry[1], entry[2]].map(i => decoded(data.traces[i], pair.ranges));
    sides.forEach((side, i) => build(side, i, problem));
    last = Math.max(...sides.map(side => side.steps));
    at("slider").max = last;
    at("detail").textContent = "Point at a token, tap it, or walk to it with the tab key, to see what is known of it.";
    goto(last);
  }

  function filter() {
    const least = Number(at("filter").value);
    shown = pair.problems.map((_, i) => i).filter(i => pair.problems[i][3] >= least);
    const label = i => {
      const [problem, ...traces] = pair.problems[i].slice(0, 3);
      return `${data.problems[problem].id}: ${traces.map(one => digits(data.traces[one].score)).join(" → ")}`;
    };
    options(at("problem"), shown.map((i, n) => [n, label(i)]), 0);
    open(0);
  }

  function choose() {
    pair = data.pairs[at("pair").value];
    const count = least => pair.problems.filter(entry => entry[3] >= least).length;
    const kinds = [[0, "all problems"], [2, "scores differ"], [1, "texts differ"]].map(([least, text]) => [least, `${text} (${count(least)})`]);
    options(at("filter"), kinds, count(2) ? 2 : 0);
    for (const option of at("filter").options) option.disabled = count(Number(option.value)) === 0;
    const known = data.signals.map((signal, i) => [i, `${signal.label}`]).filter(([i]) => pair.ranges[data.signals[i].name]);
    const before = at("signal").value;
    options(at("signal"), known, known.some(([i]) => String(i) === before) ? before : known[0][0]);
    legend();
    filter();
  }

  function legend() {
    const signal = data.signals[at("signal").value];
    const ends = pair.ranges[signal.name].map(digits);
    if (signal.certain === "high") ends.reverse();
    const step = (pair.ranges[signal.name][1] - pair.ranges[signal.name][0]) / (data.alphabet.length - 1) / 2;
    at("low").textContent = ends[0];
    at("high").textContent = `${ends[1]} ${signal.unit}`;
    at("high").title = `in ${data.alphabet.length} levels: values are told to within ${digits(step)}`;
  }

  // ---- keys ---------------------------------------------------------------------------------------------------------

  const KEYS = {
    ArrowLeft: () => goto(frame - 1), ArrowRight: () => goto(frame + 1), Home: () => goto(0), End: () => goto(last), " ": play,
    p: () => open(place - 1), n: () => open(place + 1), w: () => { at("wrong").click(); },
  };

  function walk(event) {
    const side = sides.find(one => one.chips.includes(event.target));
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!side || !by) return false;
    const next = side.chips[side.chips.indexOf(event.target) + by];
    if (next) next.focus();
    return true;
  }

  function pressed(event) {
    const kind = event.target.tagName;
    if (event.ctrlKey || event.metaKey || event.altKey || kind === "SELECT" || (event.key === " " && ["BUTTON", "INPUT", "SUMMARY"].includes(kind))) return;
    if (event.target === at("slider") && event.key.length > 1) return;
    const key = KEYS[event.key];
    if (walk(event)) event.preventDefault();
    else if (key) {
      event.preventDefault();
      if (event.key !== " ") pause();
      key();
    }
  }

  function begin() {
    data = JSON.parse(document.getElementById("replay-data").textContent);
    at("ends").hidden = data.ends.length === 0;
    options(at("pair"), data.pairs.map((one, i) => [i, `${one.task}: ${one.names.join(" against ")}`]), 0);
    const on = (name, event, act) => at(name).addEventListener(event, act);
    on("pair", "change", choose);
    on("filter", "change", filter);
    on("problem", "change", () => open(Number(at("problem").value)));
    on("previous", "click", () => open(place - 1));
    on("next", "click", () => open(place + 1));
    on("first", "click", () => { pause(); goto(0); });
    on("back", "click", () => { pause(); goto(frame - 1); });
    on("play", "click", play);
    on("forward", "click", () => { pause(); goto(frame + 1); });
    on("last", "click", () => { pause(); goto(last); });
    on("slider", "input", () => { pause(); goto(Number(at("slider").value)); });
    on("signal", "change", () => { legend(); goto(frame); });
    on("wrong", "change", () => goto(frame));
    root.addEventListener("keydown", pressed);
    document.getElementById("player").hidden = false;
    choose();
  }

  // Not before it is about to be seen: the first picture of the page does not wait for it.
  const near = new IntersectionObserver(seen => {
    if (seen.some(one => one.isIntersecting)) {
      near.disconnect();
      begin();
    }
  }, { rootMargin: "600px" });
  near.observe(root);
})();
