"""Further phrasings of answers, in more languages and notations, and what each of them gives."""

# ruff: noqa: E501 - a table

from fractions import Fraction

import pytest

from langchain_llm_router.collect import ExactMatch
from langchain_llm_router.verification import read_letter, read_number, same_answer

LETTERS = [
    ("The answer is B: Paris.", "B"), ("Option B", "B"),
    ("The correct answer is:\n\n**C) 12**", "C"), ("A) no\nB) no\nC) yes\nD) no", "C"),
    ("Final answer: \\boxed{\\text{(B)}}", "B"), ("\\boxed{\\textbf{B}: 12}", "B"),
    ("La bonne réponse est C", "C"), ("La respuesta correcta es la opción C", "C"),
    ("La risposta corretta è la B", "B"), ("选项B是正确的", "B"), ("因此，答案为D。", "D"), ("本题选B", "B"),
    ("正解はBです。", "B"), ("정답은 B입니다.", "B"), ("よって、Cが正解です", "C"), ("I would say B", "B"), ("B!", "B"),
    ("That would be B.", "B"), ("👉 B", "B"), ("✔ B. Paris", "B"), ("Answer: a", "A"),
    ("Choice D is the only one that works.", "D"), ("C satisfies both conditions.", "C"),
    ("Eliminate A, B, and D. C remains.", "C"), ("The answer is neither A nor B; it's C", "C"),
    ("I initially chose A, but on reflection I choose C.", "C"), ("~~A~~ B", "B"),
    ("Answer: B\n\nExplanation: Option A describes osmosis, option C describes diffusion.", "B"),
    ("(A) is false; (B) is true", "B"), ("{\"answer\":\"B\",\"confidence\":0.9}", "B"),
    ("Letter: D", "D"), ("𝑩", "B"), ("⒝", "B"), ("The answer is Option  C", "C"),
    ("ANSWER:B", "B"), ("ans = C", "C"), ("Hence option (d) is correct.", "D"),
    ("The most likely diagnosis is C. Appendicitis", "C"), ("K", None), ("Either B or C", None),
    ("I cannot answer that.", None), ("I would need more information.", None),
    ("As a language model, I can't help.", None),
    ("Although A is tempting, the right one is B", "B"), ("الإجابة الصحيحة هي ب", None),
    ("Câu trả lời là B", "B"), ("Odpowiedź: B", "B"), ("Het juiste antwoord is C.", "C"),
    ("Jawaban: B", "B"), ("Svar: C", "C"), ("תשובה: B", "B"), ("The answer: **(B)** – Paris", "B"),
    ("A and C are true, so the answer is D (both).", "D"),
    ("D) All of the above (A, B and C)", "D"),
    ("Let x be A's age. Then B is 5.\n\nAnswer: C", "C"),
    ("A: too small\nB: right\nC: too large", "B"), ("Option C is the closest.", "C"),
    ("Statement B best describes it", "B"), ("Answer (a)", "A"), ("Answer: (a) 5 cm", "A"),
    ("Hepatitis B", None), ("C. Group A streptococcus", "C"),
    ("The answer is B because blood type A is incompatible.", "B"), ("B instead of C", "B"),
    ("A? No. B? No. C? Yes.", "C"), ("Is the answer A? No. Is it B? Yes.", "B"),
    ("A is close but B is correct", "B"), ("The answer is C\n\nThe answer is C", "C"),
    ("Final Answer\n\nB", "B"), ("## B", "B"), ("* B", "B"), ("B.\n", "B"), ("'B'", "B"),
    ("{B}", "B"), ("The answer is <b>C</b>.", "C"), ("_B_", "B"), ("[B]", "B"), ("(B", "B"),
    ("Correct: B", "B"), ("Choice: B", "B"), ("Therefore (B)", "B"), ("Hence (B)", "B"),
    ("B, C", None), ("A, B, C, D", None),
    ("It cannot be A or B. So C or D. D is false. So C.", "C"),
    ("I don't know, but if I had to guess, B", "B"), ("Probably B", "B"),
    ("The answer is **B** and here's why: A fails, C fails.", "B"), ("The A team", None),
    ("correct answer - b", "B"), ("Answer(B)", "B"), ("ans(b)", "B"),
]  # fmt: skip

NUMBERS = [
    ("So it is **18** dollars", "18"), ("She pays **$1,007.00**.", "1007"), ("It is __18__.", "18"), ("x**2 is 16", "16"),
    ("The answer is 1,234.50 USD", "2469/2"), ("about 18", "18"), ("18 km/h", "18"),
    ("0x12", None), ("XVIII", None), ("negative 7", "-7"), ("-0", "0"), ("22/7", "22/7"),
    ("１，０００", "1000"), ("一百", None), ("3万", "30000"), ("2.5億", "250000000"), ("5 lakh", "500000"),
    ("2 crore", "20000000"), ("1.5M", "1500000"), ("$1.5M", "1500000"), ("$2B", "2000000000"),
    ("1.2bn", "1200000000"), ("3 Millionen", "3000000"), ("3 millions", "3000000"),
    ("3 Mio. €", "3000000"), ("50 percent", "50"), ("%50", "50"), ("e^2", None), ("log 5", None),
    ("\\frac{22}{7}", "22/7"), ("\\cfrac{1}{2}", "1/2"), ("\\boxed{5\\%}", "5"),
    ("\\boxed{1{,}234}", "1234"), ("\\boxed{(1,2)}", None), ("\\boxed{90^{\\circ}}", "90"),
    ("\\boxed{5\\ \\text{m}^2}", "5"), ("5 m^2", "5"), ("5 m²", "5"), ("12 cm^3", "12"),
    ("12 cm³", "12"), ("25 m/s^2", "25"), ("Between 5 and 10", "10"), ("5 ± 1", "5"),
    ("5 +/- 0.2", "5"), (">5", "5"), ("####18", "18"), ("**Final Answer:** $18", "18"),
    ("The answer is `18`.", "18"), ("1. Add 5\n2. Subtract 3\n3. Result: 2", "2"),
    ("1e-7", "1/10000000"), ("infinity", None), ("1\u202f234,56", "30864/25"), ("18,- €", "18"),
    ("₴18", "18"), ("HK$18", "18"), ("¥18", "18"), ("答案是：18个", "18"),
    ("La réponse est 1 234,5", "2469/2"), ("उत्तर १८ है", "18"),
    ("The answer is 18, since 9 + 9 = 18 and 18 > 17", "18"),
    ("The answer is 18. Actually, let me recheck: 20.", "20"), ("It's 18, not 17.", "18"),
    ("x=4 (from 2x=8)", "4"), ("5 * 3 = 15.\n15 + 3 = 18.", "18"), ("18。", "18"),
    ("The answer is not 17.", None), ("It's 18 rather than 17", "18"), ("18 instead of 20", "18"),
    ("He earns $18 per hour", "18"), ("x:18", "18"), ("Answer: 18\n\n---\nNote: 3 is odd", "18"),
    ("18/1", "18"), ("\\boxed{ 18 }", "18"), ("\\boxed{\\$18.50}", "37/2"),
    ("\\boxed{\\frac{\\sqrt{2}}{2}}", None), ("\\boxed{3\\pi}", None),
    ("between $5 and $10", "10"), ("5 to 10 percent", "10"), ("5/6/2024", None),
    ("1.5e+10", "15000000000"), ("6.02e23 mol^-1", "602000000000000000000000"),
    ("3.0 x 10^8 m s^{-1}", "300000000"), ("9.8 m/s²", "49/5"), ("9.8 m s⁻²", "49/5"),
    ("5x3 = 15", "15"), ("100 cm^2 = 0.01 m^2", "1/100"), ("The area is 25 cm².", "25"),
    ("V = 27 cm^{3}", "27"), ("25\\text{ cm}^2", "25"), ("$25\\ \\mathrm{cm}^2$", "25"),
    ("log_2(8) = 3", "3"), ("100%", "100"), ("25% (1/4)", "25"), ("1,23", "123/100"),
    ("1 234.56", "30864/25"), ("৫০", "50"), ("⑴", "1"), ("1 and 1/2", "3/2"), ("¾", "3/4"),
    ("2∕3", "2/3"), ("2÷3", "2/3"), ("+ 5", "5"), ("~5", "5"),
]  # fmt: skip

TEXTS = [
    ("The answer is 'Paris'", "Paris", True), ("Paris!", "Paris", True), ("Paris?", "Paris", True),
    ("Answer: Paris\n\nBecause…", "Paris", True), ("“Paris”", "Paris", True),
    ("Paris,", "Paris", True), ("Paris;", "Paris", True), ("- Paris", "Paris", True),
    ("• Paris", "Paris", True), ("Café", "Cafe\u0301", True), ("It’s", "It's", True),
    ("e\u2011mail", "e-mail", True), ("New\u00a0York", "New York", True), ("Yes.", "yes", True),
    ("The final answer is $\\boxed{\\text{Paris}}$.", "Paris", True),
    ("\\boxed{\\text{yes}}", "yes", True), ("\\boxed{\\frac{1}{2}}", "1/2", True),
    ("答案：巴黎", "巴黎", True), ("答えは東京です。", "東京", True), ("La réponse est Paris.", "Paris", True),
    ("Réponse : Paris", "Paris", True), ("La respuesta es París.", "París", True),
    ("Ответ: Москва", "Москва", True), ("Ответ: Москва.", "москва", True),
    ("정답은 서울입니다.", "서울", True), ("정답: 서울", "서울", True), ("الإجابة: القاهرة", "القاهرة", True),
    ("A resposta é Lisboa.", "Lisboa", True), ("La risposta è Roma.", "Roma", True),
    ("<answer>Paris</answer>", "Paris", True), ("{\"answer\": \"Paris\"}", "Paris", True),
    ("The answer should be Paris.", "Paris", True), ("The answer would be Paris.", "Paris", True),
    ("Final answer - Paris", "Paris", True), ("Answer = Paris", "Paris", True),
    ("Answer -> Paris", "Paris", True), ("The answer was Paris.", "Paris", True),
    ("answers: a, b", "a, b", True), ("The answer is U.S. Steel.", "U.S. Steel", True),
    ("The answer is Dr. Seuss.", "Dr. Seuss", True), ("The answer is St. Paul.", "St. Paul", True),
    ("The answer is Mr. Smith", "Mr. Smith", True),
    ("The answer is: Washington, D.C.", "Washington, D.C.", True), ("5", "-5", False),
    ("C#", "C", False), ("no", "no answer", False), ("10%", "10 %", True),
    ("5 USD", "5 EUR", False), ("02", "2", True),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "letter"), LETTERS)
def test_the_letter_that_an_answer_chooses_is_read_in_any_notation(answer, letter):
    assert read_letter(answer) == letter


@pytest.mark.parametrize(("answer", "number"), NUMBERS)
def test_the_number_that_an_answer_gives_is_read_in_any_notation(answer, number):
    found = read_number(answer)
    assert (None if found is None else found.value) == (
        None if number is None else Fraction(number)
    )


@pytest.mark.parametrize(("answer", "reference", "same"), TEXTS)
def test_the_text_that_an_answer_gives_is_compared_in_any_notation(answer, reference, same):
    assert same_answer(answer, reference) is same_answer(reference, answer) is same
    assert ExactMatch().matches(answer, reference) is same
