// Draws the tokens of a prompt as toggle buttons. Every text comes through `data` and is set with textContent: nothing of a
// prompt is ever read as markup. One token is in the tab order at a time; arrows, Home and End move between them.
export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const strip = parentElement.querySelector(".strip");
  const legend = parentElement.querySelector(".legend");
  strip.setAttribute("aria-label", data.label);

  const focused = [...strip.children].findIndex((node) => node.matches(":focus"));
  const current = Math.max(0, Math.min(data.tokens.length - 1, focused >= 0 ? focused : data.selected ?? 0));
  const buttons = data.tokens.map((token, index) => makeToken(token, index, index === current, data));
  strip.replaceChildren(...buttons);
  if (focused >= 0 && buttons.length) buttons[current].focus();

  const choose = (index) => {
    const again = buttons[index].getAttribute("aria-pressed") === "true";
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === index && !again)));
    setStateValue("selected", again ? -1 : index);
  };
  const move = (index) => {
    const to = Math.max(0, Math.min(buttons.length - 1, index));
    buttons.forEach((button, at) => (button.tabIndex = at === to ? 0 : -1));
    buttons[to].focus();
  };
  const keys = (index) => ({
    ArrowRight: () => move(index + 1),
    ArrowDown: () => move(index + 1),
    ArrowLeft: () => move(index - 1),
    ArrowUp: () => move(index - 1),
    Home: () => move(0),
    End: () => move(buttons.length - 1),
    Escape: () => buttons[index].getAttribute("aria-pressed") === "true" && choose(index),
  });
  buttons.forEach((button, index) => {
    button.onclick = () => choose(index);
    button.onkeydown = (event) => {
      const act = keys(index)[event.key];
      if (act) {
        event.preventDefault();
        act();
      }
    };
  });
  drawLegend(legend, data);
}

function makeToken(token, index, reachable, data) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = data.fixed[index] ? "token fixed" : "token";
  button.tabIndex = reachable ? 0 : -1;
  button.style.background = data.colours[index];
  button.title = data.descriptions[index];
  button.setAttribute("aria-label", data.descriptions[index]);
  button.setAttribute("aria-pressed", String(index === data.selected));
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
  legend.replaceChildren(
    part("", data.low),
    part("scale", "", `linear-gradient(to right, ${data.scale.join(", ")})`),
    part("", data.high),
  );
}
