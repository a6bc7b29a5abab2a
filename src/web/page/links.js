// The addresses of a station: to copy, and as QR codes for a telephone.

const at = (id) => document.getElementById(id);

// Shows the addresses of a station.
export async function showLinks({ id, name }, speak) {
  const dialog = at("links");
  at("links-title").textContent = `${id} ${name}`;
  at("code").hidden = true;
  const list = at("addresses");
  list.replaceChildren();
  dialog.showModal();
  let links;
  try {
    const answer = await fetch(`/api/stations/${id}/links`);
    if (!answer.ok) throw new Error(await answer.text());
    links = await answer.json();
  } catch (error) {
    list.textContent = `The addresses cannot be had: ${error.message}`;
    return;
  }
  for (const link of links) {
    const row = at("address").content.firstElementChild.cloneNode(true);
    const [label, url, copy, code] = ["label", "url", "copy", "show-code"].map((name) => row.querySelector(`.${name}`));
    label.textContent = link.label;
    url.value = link.url;
    copy.ariaLabel = `Copy the address, ${link.label}`;
    code.ariaLabel = `QR code, ${link.label}`;
    copy.addEventListener("click", async () => {
      const copied = await copyFrom(url);
      copy.textContent = copied ? "Copied" : "Press Ctrl-C";
      speak(copied ? "Copied" : "Press Ctrl-C to copy");
      setTimeout(() => (copy.textContent = "Copy"), 2000);
    });
    code.addEventListener("click", () => {
      const picture = at("code");
      const source = `/api/stations/${id}/links/${link.kind}.svg`;
      const shown = !picture.hidden && picture.getAttribute("src") === source;
      picture.hidden = shown;
      for (const other of list.querySelectorAll(".show-code")) other.ariaPressed = String(other === code && !shown);
      picture.alt = `QR code of ${link.url}`;
      if (!shown) picture.src = source;
    });
    list.append(row);
  }
}

// Browsers lend their clipboard to pages on https and localhost; everywhere else the selection is copied.
async function copyFrom(field) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}
