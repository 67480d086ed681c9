"use strict";
// Markdown as nodes of the page. A model's answer is foreign text, so it is never parsed as HTML:
// every part of it becomes a text node, tags included, and only the elements named here are made.
const renderMarkdown = (() => {
  // Bounded, so that a text of a million asterisks takes no longer than another.
  const INLINE = /(`{1,3})([^\n]{1,2000}?)\1|\*\*([^\n]{1,2000}?)\*\*|(?<![\w*])[*_](?=\S)([^\n*_]{1,2000}?)[*_](?!\w)|!?\[([^\]\n]{0,500})\]\(([^)\s]{1,2000})\)|(https?:\/\/[^\s<>"')\]]{1,2000})/g;
  const ITEM = /^( {0,8})([-*+]|\d{1,9}[.)])[ \t]+(.*)$/;
  const STARTS = [/^#{1,6} /, /^ {0,3}```/, /^ {0,3}>/, ITEM, /^ {0,3}([-*_])( ?\1){2,} *$/];

  function make(tag, ...children) {
    const node = document.createElement(tag);
    node.append(...children);
    return node;
  }

  function link(address, text) {
    let url = null;
    try { url = new URL(address); } catch { /* not an address: shown as it is written */ }
    if (url === null || !["http:", "https:"].includes(url.protocol)) return null;
    const node = make("a", text);
    node.href = url.href;
    node.rel = "noopener noreferrer nofollow";
    node.target = "_blank";
    return node;
  }

  function inline(text, depth = 0) {
    const nodes = [];
    let end = 0;
    for (const match of depth < 4 ? text.matchAll(INLINE) : []) {
      const [whole, , code, strong, em, label, target, bare] = match;
      let node;
      if (code !== undefined) node = make("code", code);
      else if (strong !== undefined) node = make("strong", ...inline(strong, depth + 1));
      else if (em !== undefined) node = make("em", ...inline(em, depth + 1));
      else if (bare !== undefined) {
        const tail = bare.match(/[.,;:!?]+$/)?.[0] ?? "";
        const anchor = link(bare.slice(0, bare.length - tail.length), bare.slice(0, bare.length - tail.length));
        node = anchor && tail ? make("span", anchor, tail) : anchor;
      } else node = link(target, label || target);  // an image is a link: nothing is loaded
      nodes.push(text.slice(end, match.index), node ?? whole);
      end = match.index + whole.length;
    }
    nodes.push(text.slice(end));
    return nodes.filter(node => node !== "");
  }

  function lines(texts) {
    return texts.flatMap((text, i) => i ? [make("br"), ...inline(text)] : inline(text));
  }

  function table(rows) {
    const cells = row => row.trim().replace(/^\||\|$/g, "").split("|").map(cell => inline(cell.trim()));
    const head = make("tr", ...cells(rows[0]).map(cell => make("th", ...cell)));
    const body = rows.slice(2).map(row => make("tr", ...cells(row).map(cell => make("td", ...cell))));
    const node = make("div", make("table", make("thead", head), make("tbody", ...body)));
    node.className = "wide";
    return node;
  }

  function list(rows, depth) {
    const first = rows[0].match(ITEM), indent = first[1].length;
    const node = make(/\d/.test(first[2]) ? "ol" : "ul");
    if (/\d/.test(first[2])) node.start = parseInt(first[2], 10);
    let item = [];
    const close = () => { if (item.length) node.append(make("li", ...blocks(item, depth + 1))); };
    for (const row of rows) {
      const match = row.match(ITEM);
      if (match && match[1].length <= indent) { close(); item = [match[3]]; }
      else item.push(row.replace(/^ {1,4}/, ""));
    }
    close();
    return node;
  }

  function blocks(rows, depth = 0) {
    const nodes = [];
    let i = 0;
    const take = belongs => { const from = i; while (i < rows.length && belongs(rows[i], i - from)) i += 1; return rows.slice(from, i); };
    while (i < rows.length) {
      const row = rows[i];
      if (!row.trim()) { i += 1; continue; }
      const heading = row.match(/^(#{1,6}) +(.*?)#*$/);
      if (/^ {0,3}```/.test(row)) {
        i += 1;
        const code = take(one => !/^ {0,3}```\s*$/.test(one));
        i += 1;
        nodes.push(make("pre", make("code", code.join("\n"))));
      } else if (heading) {
        i += 1;
        nodes.push(make("h" + Math.min(6, heading[1].length + 3), ...inline(heading[2])));
      } else if (STARTS[4].test(row)) {
        i += 1;
        nodes.push(make("hr"));
      } else if (depth < 6 && /^ {0,3}>/.test(row)) {
        nodes.push(make("blockquote", ...blocks(take(one => /^ {0,3}>/.test(one)).map(one => one.replace(/^ {0,3}> ?/, "")), depth + 1)));
      } else if (depth < 6 && ITEM.test(row)) {
        nodes.push(list(take((one, n) => n === 0 || ITEM.test(one) || /^ {2,}\S/.test(one)), depth));
      } else if (row.includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(rows[i + 1] ?? "") && rows[i + 1].includes("|")) {
        nodes.push(table(take(one => one.includes("|"))));
      } else {
        nodes.push(make("p", ...lines(take((one, n) => one.trim() !== "" && (n === 0 || !STARTS.some(start => start.test(one)))))));
      }
    }
    return nodes;
  }

  return text => blocks(text.replace(/\r\n?/g, "\n").split("\n"));
})();
