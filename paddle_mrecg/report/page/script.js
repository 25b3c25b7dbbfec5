(function () {
  "use strict";
  var root = document.documentElement;
  var inputs = { en: document.getElementById("en"), zh: document.getElementById("zh") };
  function choose(language) {
    inputs[language].checked = true;
    root.lang = language;
    try { localStorage.setItem("paddle_mrecg.language", language); } catch (error) { /* a file */ }
  }
  var stored = null;
  try { stored = localStorage.getItem("paddle_mrecg.language"); } catch (error) { /* a file */ }
  var wanted = stored || (/^zh/i.test(navigator.language || "") ? "zh" : "en");
  choose(inputs[wanted] ? wanted : "en");
  Object.keys(inputs).forEach(function (language) {
    inputs[language].addEventListener("change", function () { choose(language); });
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (part) { part.open = true; });
  });
})();
