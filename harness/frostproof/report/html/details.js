  // What both pages have: copying

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.copy");
    if (button) copy(button);
  });

  async function copy(button) {
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "copied";
    button.classList.add("done");
    setTimeout(() => { button.textContent = "copy"; button.classList.remove("done"); }, 1500);
  }

  // The details: an article is shown while the address names it

  let opener = null;
  const open = () => document.querySelector("article:target");

  function close() {
    if (!open()) return;
    location.hash = "";
    opener?.focus({preventScroll: true});
    opener = null;
  }

  function turned() {
    const article = open();
    if (!article) return;
    document.getElementById("details").scrollTop = 0;
    article.focus({preventScroll: true});
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link) return;
    if (link.classList.contains("close")) { event.preventDefault(); close(); }
    else if (link.closest("#matrix")) opener = link.closest("td, th");
  });
  addEventListener("hashchange", turned);
  turned();
