"""Texts that answer nothing: refusals, and the admission that an answer is not known.

Two models that do not know agree in nothing. A text is one of these only if all of its sentences
say so, so that "I don't know, maybe 42" stays an answer.
"""

from __future__ import annotations

import re

__all__ = ["says_nothing"]

_MOST_CHARS = 500
# Texts are case-folded, so that a sharp s is ss here.
_WORDS = frozenset((
    "n/a", "n.a", "not available", "not applicable", "unknown", "not known", "no answer",
    "no idea", "idk", "dunno", "unbekannt", "k. a", "k.a", "keine angabe", "keine angaben",
    "keine ahnung", "keine antwort", "weiss nicht", "inconnu", "inconnue", "aucune idée",
    "aucune réponse", "pas de réponse", "sans réponse", "desconocido", "ni idea", "sin respuesta",
    "sconosciuto", "nessuna risposta", "不知道", "未知", "不明", "わかりません", "分かりません",
    "모름", "모르겠습니다",
))  # fmt: skip
_MARKS_ONLY = re.compile(r"[?？¿.…\s]+")
_SORRY = (
    r"(?:(?:i['’]?m|i am|we['’]?re|we are|je suis|es tut mir|tut mir|me)?\s?"
    r"(?:(?:so|very|really|truly|sehr|vraiment|terribly|afraid|leider) )?"
    r"(?:sorry|afraid|leid|désolée?|lo siento|mi dispiace|unfortunately|leider|malheureusement"
    r"|entschuldigung|i apologi[sz]e|apologies|my apologies)"
    r"(?: (?:for|about|pour|für) (?:the|any|that|this|cela|das|die) ?\w{0,20})?"
    r"(?:[,;:]|\s?[-–—])?\s?(?:(?:but|aber|mais|pero|ma|that|and)\s)?)"
)
_ABLE = (
    r"(?:can['’]?t|cannot|can not|could not|couldn['’]?t|am (?:not able|unable) to|won['’]?t"
    r"|['’]m (?:not able|unable) to|will not|do not|don['’]?t|(?:am|['’]m) not (?:sure|certain))"
)
_REFUSAL = re.compile(
    rf"(?:{_SORRY})?(?:(?:as an? (?:ai|artificial|large|language)\b[^,]{{0,40}}|honestly"
    r"|to be honest|unfortunately|well|hm+),? )?(?:"
    rf"(?:i|we) ?(?:(?:really|simply|just|honestly|actually) )?{_ABLE}"
    r"(?: (?:actually|really|currently))?(?:\s(?:know|help(?! \w+ing)"
    r"|assist|answer|provide|comply|fulfil|do"
    r"|say|tell|determine|discuss|give|find|respond|comment|be sure|have|engage|offer|continue"
    r"|support|access|see|understand|be of help)\b|$)"
    r"|(?:i|we) have no (?:idea|answer|information|way of knowing)"
    r"|(?:that|this|it) is (?:beyond|outside)\b|(?:no idea|not sure)$"
    r"|(?:ich )?weiss (?:(?:es|das|die antwort|leider|darauf|hier) ){0,3}(?:leider )?"
    r"(?:nicht|keine antwort)"
    r"|(?:das|es|die antwort) weiss ich (?:leider )?nicht"
    r"|(?:ich )?(?:kann|darf) (?:ich )?(?:\w{1,15} ){0,5}(?:nicht|keine)\b"
    r"(?:\s\w{1,15}){0,4}\s(?:helfen|beantworten|unterstützen|weiterhelfen|antworten|sagen"
    r"|beurteilen|geben|erfüllen|nachkommen|machen|tun)"
    r"|(?:dabei|damit|das|hierbei) kann ich (?:\w{1,15} ){0,3}nicht\b"
    r"|ich habe keine (?:ahnung|antwort|information)"
    r"|je (?:ne|n['’]) ?(?:\w{1,4} )?(?:sais|peux|suis|connais|dispose)\b(?: \w{1,17})? pas\b"
    r"|je n['’](?:ai|en ai) (?:aucune|pas)\b"
    r"|(?:yo )?no (?:lo sé|sé|puedo|tengo)\b|non (?:lo so|so|posso)\b"
    r"|(?:我|很?抱歉|对不起)[^。]{0,6}(?:不知道|不能|无法|不清楚)|わかりません|申し訳"
    r")",
    re.IGNORECASE,
)
_FILLER = re.compile(
    rf"(?:{_SORRY}$|if you|please|let me know|is there|can you|could you|would you|feel free"
    r"|for (?:more|that|this)|you (?:may|might|can|could|should)"
    r"|wenn (?:sie|du)|bitte|falls|gibt es|kann ich"
    r"|können sie|si vous|n['’]hésitez|veuillez|pouvez-vous|puis-je|si tiene|por favor"
    r"|as an? (?:ai|artificial|large|language))",
    re.IGNORECASE,
)
_YET = re.compile(
    r"\d|\b(?:but|however|maybe|perhaps|probably|likely|guess|think|assume|would say|if i had to"
    r"|aber|vielleicht|wahrscheinlich|vermutlich|mais|peut-être|probablement|pero|quizás?"
    r"|ma|forse)\b"
    r"|[=;]|:\s?\S|,\s(?:it|this|the answer)(?:['’]s| is)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[\n。！]+")


def says_nothing(result: str) -> bool:
    """Return whether a result is a refusal, says that it is not known, or is a mark for that.

    Args:
        result: The result of an answer, e.g. "N/A", "?" or "I'm sorry, I can't help with that."
    """
    plain = result.strip(" \t\r\n*_").casefold()
    if not plain or len(plain) > _MOST_CHARS:
        return False
    if plain.rstrip(" .!") in _WORDS or _MARKS_ONLY.fullmatch(plain) is not None:
        return True
    said = False
    for sentence in (part.strip(" .!?*_\"'") for part in _SENTENCE.split(plain)):
        refusal = _REFUSAL.match(sentence)
        if refusal is not None and _YET.search(sentence, refusal.end()) is None:
            said = True
        elif sentence and _FILLER.match(sentence) is None:
            return False
    return said
