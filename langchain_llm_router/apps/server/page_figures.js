"use strict";
// Money, scores and shares as `types/figures.py` writes them.
const { money, percent, score } = (() => {
  // Python rounds halves to the even digit, `toFixed` away from zero.
  function fixed(value, decimals) {
    const rounded = value.toFixed(decimals), exact = value.toFixed(Math.min(100, decimals + 30));
    const end = exact.indexOf(".") + 1 + decimals, isHalf = /^50*$/.test(exact.slice(end));
    return isHalf && /[13579]$/.test(rounded) ? exact.slice(0, decimals ? end : end - 1) : rounded;
  }
  function money(usd) {
    if (usd == null) return "unknown";
    const size = Math.abs(usd), decimals = size >= 1 || size === 0 ? 2 : Math.min(70, 2 - Math.floor(Math.log10(size)));
    const [whole, cents] = fixed(size, decimals).split(".");
    return (usd < 0 ? "−$" : "$") + whole.replace(/\B(?=(\d{3})+$)/g, ",") + "." + cents.replace(/0+$/, "").padEnd(2, "0");
  }
  return { money, percent: share => fixed(100 * share, 0) + " %", score: value => fixed(value, 3) };
})();
