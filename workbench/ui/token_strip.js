// Draws the tokens of a prompt as toggle buttons. Every text comes through `data` and is set with textContent: nothing of a
// prompt is ever read as markup. One token is in the tab order at a time; arrows, Home and End move between them. A strip
// for spans also takes a first and a last token: Shift with a click, an arrow or Enter reaches from the one to the other.
const SETTLED = 300; // milliseconds: a span that still grows by the keyboard is told once it rests
const memory = new WeakMap();

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const strip = parentElement.querySelector(".strip");
  const legend = parentElement.querySelector(".legend");
  strip.setAttribute("aria-label", data.label);

  const held = memory.get(strip) ?? {};
  const growing = held.timer !== undefined && held.count === data.tokens.length;
  const state = { chosen: growing ? held.chosen : data.selected, anchor: held.anchor, timer: held.timer, count: data.tokens.length };
  memory.set(strip, state);

  const focused = [...strip.children].findIndex((node) => node.matches(":focus"));
  const current = Math.max(0, Math.min(data.tokens.length - 1, focused >= 0 ? focused : state.chosen[0] ?? 0));
  const buttons = data.tokens.map((token, index) => makeToken(token, index, index === current, data));
  strip.replaceChildren(...buttons);
  if (focused >= 0 && buttons.length) buttons[current].focus();

  const show = () =>
    buttons.forEach((button, at) =>
      button.setAttribute("aria-pressed", String(state.chosen.length > 0 && state.chosen[0] <= at && at <= state.chosen[1])),
    );
  const tell = (chosen, wait) => {
    state.chosen = chosen;
    show();
    clearTimeout(state.timer);
    const send = () => {
      state.timer = undefined;
      setStateValue("selected", chosen);
    };
    if (wait) state.timer = setTimeout(send, wait);
    else send();
  };
  const choose = (index) => {
    const again = state.chosen[0] === index && state.chosen[1] === index;
    state.anchor = index;
    tell(again ? [] : [index, index]);
  };
  const reach = (index, wait) => {
    if (!(state.anchor < buttons.length)) state.anchor = state.chosen[0] ?? index;
    tell([Math.min(state.anchor, index), Math.max(state.anchor, index)], wait);
  };
  const move = (from, index, extend) => {
    const to = Math.max(0, Math.min(buttons.length - 1, index));
    buttons.forEach((button, at) => (button.tabIndex = at === to ? 0 : -1));
    buttons[to].focus();
    if (!extend) return;
    if (!state.chosen.length) state.anchor = from;
    reach(to, SETTLED);
  };
  const keys = (index, extend) => ({
    ArrowRight: () => move(index, index + 1, extend),
    ArrowDown: () => move(index, index + 1, extend),
    ArrowLeft: () => move(index, index - 1, extend),
    ArrowUp: () => move(index, index - 1, extend),
    Home: () => move(index, 0, extend),
    End: () => move(index, buttons.length - 1, extend),
    Escape: () => state.chosen.length && tell([]),
  });
  buttons.forEach((button, index) => {
    // a button makes a click of Enter and of the space bar, with the Shift key as it was held
    button.onclick = (event) => (data.spans && event.shiftKey ? reach(index) : choose(index));
    button.onkeydown = (event) => {
      const act = keys(index, data.spans && event.shiftKey)[event.key];
      if (act) {
        event.preventDefault();
        act();
      }
    };
  });
  show();
  drawLegend(legend, data);
}

function makeToken(token, index, reachable, data) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = ["token", data.fixed[index] && "fixed", data.marked[index] && "marked"].filter(Boolean).join(" ");
  button.tabIndex = reachable ? 0 : -1;
  button.style.background = data.colours[index];
  button.title = data.descriptions[index];
  button.setAttribute("aria-label", data.descriptions[index]);
  const text = document.createElement("span");
  text.className = "text";
  text.textContent = token;
  const bar = document.createElement("span");
  bar.className = data.shares[index] < 0 ? "bar against" : "bar";
  bar.style.width = `${Math.round(100 * Math.min(1, Math.abs(data.shares[index])))}%`;
  button.append(text, bar);
  return button;
}

function drawLegend(legend, data) {
  const part = (className, text, background) => {
    const node = document.createElement("span");
    node.className = className;
    node.textContent = text;
    if (background) node.style.background = background;
    return node;
  };
  const signed = data.scale.length > 2;
  legend.replaceChildren(
    ...(signed ? [part("pattern against", "")] : []),
    part("", data.low),
    part("scale", "", `linear-gradient(to right, ${data.scale.join(", ")})`),
    part("", data.high),
    part("pattern", ""),
  );
}
