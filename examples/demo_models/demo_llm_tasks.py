"""Conversation generators for the demo language model.

Every task is a function task(rng, held) -> list of (role, text) messages.  With held=True it uses question
wordings that training never sees; evaluation relies on that.  The last assistant message of every conversation
has exactly one right form (stories excepted), so that greedy answers can be checked literally.
"""

import json

from demo_llm_facts import (
    ADJECTIVES,
    ANIMALS,
    CITIES,
    COLOUR_OF,
    COLOURS,
    COUNTRIES,
    DAYS,
    FEELINGS,
    FOODS,
    GLOSSARY,
    JOBS,
    LEGS,
    MONTH_DAYS,
    MONTHS,
    NAMES,
    NUMBER,
    OBJECTS,
    OPPOSITE,
    ORDINAL,
    PAST,
    PLACES,
    PLURAL,
    SOUND,
    WORDS,
    YOUNG,
)
from demo_llm_unknown import TOPICS, unknown_question

FALLBACK = (
    "I am a tiny demo model and I do not know that. You can ask me for a short story, a capital city, "
    "a small sum, a word from the glossary or a JSON object."
)
ABOUT = (
    "I am a tiny demo model that ships with the marketplace so that it can run offline. I can tell short stories, "
    "name capitals, do small sums, explain product words and write simple JSON."
)
SYSTEMS = [
    "You are a helpful assistant.",
    "You answer briefly.",
    "You are a friendly demo model.",
    "Be concise.",
    "You are a helpful, honest assistant.",
    "Answer the user's question.",
    "You are an AI assistant.",
    "You are a test assistant. Answer in one sentence.",
    "Help the user.",
]
CONTINENTS = sorted({c for _, c in COUNTRIES.values()})


# ---------------------------------------------------------------- helpers
def ask(rng, held, train, unseen):
    """One wording of a question; training wordings get small variations in case, punctuation and politeness."""
    if held:
        return rng.choice(unseen)
    q = rng.choice(train)
    if rng.random() < 0.12:
        q = (
            rng.choice(
                [
                    "Please ",
                    "Hi! ",
                    "Hey, ",
                    "Quick question: ",
                    "Can you help? ",
                    "Can you tell me: ",
                    "I want to know: ",
                    "Question: ",
                    "Answer this: ",
                    "Could you answer this? ",
                    "Now: ",
                    "OK. ",
                    "Hello, ",
                ]
            )
            + q
        )
    if rng.random() < 0.12 and q[-1] in ".?":
        q = q[:-1]
    if rng.random() < 0.08:
        q = q + rng.choice([" Thanks!", " Thank you.", " Please.", " Answer briefly."])
    if rng.random() < 0.12:
        q = q[0].lower() + q[1:]
    return q


def qa(rng, held, train, unseen, answer):
    return [("user", ask(rng, held, train, unseen)), ("assistant", answer)]


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def upper(text):
    return text[0].upper() + text[1:]


def pseudo(rng):
    """A made-up word; keeps copying general instead of memorised."""
    part = lambda: (
        rng.choice("bcdfghjklmnprstvwz")
        + rng.choice(["a", "e", "i", "o", "u", "or", "el", "an", "in", "us", "ai"])
    )
    return "".join(part() for _ in range(rng.randint(2, 4)))


def some_name(rng):
    return rng.choice(NAMES) if rng.random() < 0.75 else upper(pseudo(rng))


# ---------------------------------------------------------------- stories
def story_text(rng, name, animal, adj, place, obj, feel):
    friend = rng.choice([n for n in NAMES if n != name])
    return " ".join(
        [
            rng.choice(
                [
                    f"Once upon a time there was {article(adj)} {animal} named {name}.",
                    f"There once was {article(adj)} {animal} called {name}.",
                ]
            ),
            rng.choice(
                [
                    f"Every morning {name} went to {place}.",
                    f"One day {name} walked to {place}.",
                    f"{name} loved to play in {place}."
                    if place.startswith(("the f", "the g", "the p", "the m"))
                    else f"{name} often went to {place}.",
                ]
            ),
            rng.choice([f"There {name} found {obj}.", f"Suddenly {name} saw {obj}."]),
            rng.choice(
                [
                    f'"What is this?" asked {name}.',
                    f'"I wonder who lost it," said {name}.',
                    f'"How lovely!" said the {animal}.',
                    f"The {animal} had never seen anything like it.",
                ]
            ),
            rng.choice(
                [
                    f'A friend called {friend} came by and said, "That is mine. Thank you for finding it!"',
                    f'Then {friend} came by and said, "Let us share it."',
                    f'{friend} smiled and said, "You may keep it."',
                ]
            ),
            rng.choice(
                [
                    f"{name} and {friend} played together until the sun went down.",
                    "They carried it home and told everyone about it.",
                    f"The {animal} and {friend} became good friends.",
                ]
            ),
            f"{name} felt very {feel}.",
        ]
    )


def story_slots(rng):
    return dict(
        name=some_name(rng),
        animal=rng.choice(ANIMALS),
        adj=rng.choice(ADJECTIVES),
        place=rng.choice(PLACES),
        obj=rng.choice(OBJECTS),
        feel=rng.choice(FEELINGS),
    )


def story(rng, held):
    s = story_slots(rng)
    a, n, p, o, j = article(s["animal"]), s["name"], s["place"], s["obj"], s["adj"]
    ja = f"{article(j)} {s['animal']}"
    q = ask(
        rng,
        held,
        [
            f"Tell me a story about {a}.",
            f"Write a short story about {a}.",
            f"Please tell a story with {a} named {n}.",
            f"Tell me a story about {ja}.",
            f"Tell a story about {a} called {n} who finds {o}.",
            "Tell me a story.",
            f"Write a story about {ja} named {n} in {p}.",
            f"Tell a short story about {n} the {s['animal']}.",
            f"I want a story about {a} that goes to {p}.",
            f"Can you write a story about {o}?",
            "Write a short story.",
            f"Tell me a story set in {p}.",
            f"Make up a story: hero {n}, animal {s['animal']}, place {p}, object {o}.",
            f"Write a bedtime story about {a} and {o}.",
            f"Story about {a} please.",
            f"A story about {n}, {ja}, please.",
            f"Tell me a short story about {ja} called {n} who goes to {p} and finds {o}.",
        ],
        [
            f"Could you tell us a little story about {ja} named {n}?",
            f"Give me a story in which {a} named {n} finds {o} in {p}.",
            f"I would like to hear a tale about {a} called {n} in {p}.",
        ],
    )
    if not held and rng.random() < 0.05:  # chapters with the same hero
        parts = [story_text(rng, **s)] + [
            story_text(
                rng,
                **{
                    **s,
                    "place": rng.choice(PLACES),
                    "obj": rng.choice(OBJECTS),
                    "feel": rng.choice(FEELINGS),
                },
            )
            for _ in range(2)
        ]
        return [
            (
                "user",
                rng.choice(
                    [
                        f"Tell me a long story about {a} named {n}.",
                        f"Write a long story about {ja} called {n}.",
                        f"Write a long story about {a}.",
                        "Tell me a long story.",
                    ]
                ),
            ),
            ("assistant", "\n\n".join(parts)),
        ]
    return [("user", q), ("assistant", story_text(rng, **s))]


# ---------------------------------------------------------------- facts
def capital(rng, held):
    c = rng.choice(list(COUNTRIES)) if rng.random() > 0.02 else "the United States"
    cap, cont = COUNTRIES[c]
    kind = rng.random()
    if kind < 0.06:
        return qa(
            rng,
            held,
            [
                f"What is the capital of {c}? Answer with one word.",
                f"What is the capital of {c}? Reply with the name only.",
                f"Name the capital of {c}. Only the name.",
                f"Answer with the name only: what is the capital of {c}?",
            ],
            [f"Which city is the capital of {c}? Answer with one word."],
            cap,
        )
    if kind < 0.66:
        return qa(
            rng,
            held,
            [
                f"What is the capital of {c}?",
                f"Name the capital of {c}.",
                f"capital of {c}?",
                f"The capital of {c}?",
                f"What's the capital of {c}?",
                f"Which city is the capital of {c}?",
                f"Tell me the capital of {c}.",
                f"What is the capital city of {c}?",
                f"{upper(c)}: capital?",
                f"Which city is {c}'s capital?",
                f"I need the capital of {c}.",
                f"Please tell me the capital of {c}.",
                f"Can you name the capital of {c}?",
                f"Give me the name of the capital of {c}.",
            ],
            [
                f"Do you know the capital of {c}?",
                f"Please name the capital city of {c}.",
                f"Can you tell me what the capital of {c} is?",
            ],
            f"The capital of {c} is {cap.rstrip('.')}.",
        )
    if kind < 0.82:
        return qa(
            rng,
            held,
            [
                f"Which country has the capital {cap}?",
                f"{cap} is the capital of which country?",
                f"What country is {cap} the capital of?",
                f"Name the country whose capital is {cap}.",
                f"The city {cap} is the capital of which country?",
            ],
            [f"Of which country is {cap} the capital?"],
            f"{cap} is the capital of {c}.",
        )
    verb = (
        "are"
        if c.endswith(
            ("Netherlands", "Philippines", "Maldives", "Comoros", "Bahamas", "Seychelles", "Islands")
        )
        else "is"
    )
    return qa(
        rng,
        held,
        [
            f"Which continent {verb} {c} in?",
            f"On which continent {verb} {c}?",
            f"Where {verb} {c}?",
            f"What continent {verb} {c} in?",
        ],
        [f"In which continent {verb} {c}?"],
        f"{upper(c)} {verb} in {cont}.",
    )


def colour(rng, held):
    k, v = rng.choice(list(COLOUR_OF.items()))
    w = rng.choice(["colour", "color"])
    return qa(
        rng,
        held,
        [f"What {w} is {k}?", f"Which {w} is {k}?", f"Tell me the {w} of {k}.", f"What is the {w} of {k}?"],
        [f"What {w} does {k} have?", f"Name the {w} of {k}."],
        f"{upper(k)} is {v}.",
    )


def opposite(rng, held):
    k, v = rng.choice(list(OPPOSITE.items()))
    k2 = rng.choice([k, f'"{k}"', f"'{k}'"])
    return qa(
        rng,
        held,
        [
            f"What is the opposite of {k2}?",
            f"Opposite of {k2}?",
            f"Give me the opposite of {k2}.",
            f"What is the antonym of {k2}?",
            f"Give an antonym for {k2}.",
        ],
        [f"Tell me the opposite of {k2}.", f"Name the antonym of {k2}."],
        f"The opposite of {k} is {v}.",
    )


def grammar(rng, held):
    if rng.random() < 0.55:
        k, v = rng.choice(list(PLURAL.items()))
        return qa(
            rng,
            held,
            [
                f"What is the plural of {k}?",
                f"Plural of {k}?",
                f"Give the plural of {k}.",
                f'Make "{k}" plural.',
            ],
            [f"Tell me the plural of {k}.", f"What is the plural form of {k}?"],
            f"The plural of {k} is {v}.",
        )
    k, v = rng.choice(list(PAST.items()))
    return qa(
        rng,
        held,
        [f"What is the past tense of {k}?", f"Past tense of {k}?", f'Put "{k}" in the past tense.'],
        [f"Tell me the past tense of {k}."],
        f"The past tense of {k} is {v}.",
    )


def nature(rng, held):
    kind = rng.randrange(3)
    if kind == 0:
        k, v = rng.choice(list(SOUND.items()))
        return qa(
            rng,
            held,
            [
                f"What sound does {article(k)} make?",
                f"What does {article(k)} do: moo, bark or something else?",
            ],
            [f"Which sound does {article(k)} make?"],
            f"{upper(article(k))} {v}.",
        )
    if kind == 1:
        k, v = rng.choice(list(YOUNG.items()))
        return qa(
            rng,
            held,
            [f"What is a baby {k} called?", f"What do you call a young {k}?"],
            [f"What is the name for a baby {k}?"],
            f"A baby {k} is called {article(v)}.",
        )
    k, v = rng.choice(list(LEGS.items()))
    v = NUMBER[v] if v else "no"
    return qa(
        rng,
        held,
        [f"How many legs does {article(k)} have?", f"Number of legs of {article(k)}?"],
        [f"Tell me how many legs {article(k)} has."],
        f"{upper(article(k))} has {v} legs.",
    )


def glossary(rng, held):
    k = rng.choice(list(GLOSSARY))
    bare = k.split(" ", 1)[1] if k.startswith(("a ", "an ")) else k
    return qa(
        rng,
        held,
        [
            f"What is {k}?",
            f"Explain {k}.",
            f"Tell me what {k} is.",
            f"What does {bare} mean?",
            f"What is meant by {bare}?",
            f"Define {bare}.",
            f"What's {k}?",
            f"Explain the word {bare}.",
            f"What does the word {bare} mean?",
            f"Give a definition of {bare}.",
            f"Can you explain {k}?",
            f"Please explain {k}.",
            f"What do you mean by {bare}?",
            f"Please define {bare}.",
        ],
        [f"Could you explain what {k} is?", f"Give me a definition of {bare}."],
        GLOSSARY[k],
    )


# ---------------------------------------------------------------- numbers, days, lists
def sums(rng, held):
    op = rng.choice("++--*")
    a, b = (rng.randint(0, 12), rng.randint(0, 10)) if op == "*" else (rng.randint(0, 20), rng.randint(0, 20))
    if op == "-" and b > a and rng.random() < 0.7:
        a, b = b, a
    value, word = {"+": (a + b, "plus"), "-": (a - b, "minus"), "*": (a * b, "times")}[op]
    verb = {"+": f"Add {a} and {b}.", "-": f"Subtract {b} from {a}.", "*": f"Multiply {a} by {b}."}[op]
    sign = rng.choice("*x") if op == "*" else op
    if rng.random() < 0.06:
        return qa(
            rng,
            held,
            [
                f"What is {a} {sign} {b}? Answer with the number only.",
                f"What is {a} {sign} {b}? Just the number.",
                f"{a} {sign} {b}? Number only.",
            ],
            [f"Calculate {a} {sign} {b}. Just the number."],
            str(value),
        )
    return qa(
        rng,
        held,
        [
            f"What is {a} {sign} {b}?",
            f"{a} {sign} {b}",
            f"{a}{sign}{b}",
            f"{a} {sign} {b} = ?",
            f"{a}{sign}{b}=",
            f"What is {a}{sign}{b}?",
            verb,
            f"{a} {word} {b}?",
            f"What is {a} {word} {b}?",
            f"Calculate {a} {sign} {b}.",
            f"How much is {a} {sign} {b}?",
        ],
        [f"Tell me {a} {sign} {b}.", f"Compute {a} {sign} {b}.", f"How much is {a} {word} {b}?"],
        f"{a} {op} {b} = {value}.",
    )


def numbers(rng, held):
    kind = rng.randrange(6)
    a, b = rng.sample(range(31), 2)
    if kind == 0:
        return qa(
            rng,
            held,
            [
                f"Which is bigger, {a} or {b}?",
                f"Which number is larger: {a} or {b}?",
                f"What is the larger number, {a} or {b}?",
                f"Bigger: {a} or {b}?",
            ],
            [f"What is the bigger number, {a} or {b}?"],
            f"{max(a, b)} is bigger than {min(a, b)}.",
        )
    if kind == 1:
        return qa(
            rng,
            held,
            [
                f"Is {a} even or odd?",
                f"Is {a} an even number?",
                f"Even or odd: {a}?",
                f"Say whether {a} is odd or even.",
            ],
            [f"Tell me whether {a} is even or odd."],
            f"{a} is {'odd' if a % 2 else 'even'}.",
        )
    if kind == 2:
        return qa(
            rng,
            held,
            [f"What number comes after {a}?", f"What comes after {a}?"],
            [f"Which number comes after {a}?"],
            f"{a + 1} comes after {a}.",
        )
    if kind == 3:
        lo = rng.randint(0, 10)
        hi = lo + rng.randint(2, 12)
        seq = ", ".join(map(str, range(lo, hi + 1)))
        if rng.random() < 0.35:
            seq = ", ".join(map(str, range(1, hi + 1)))
            return qa(
                rng,
                held,
                [
                    f"Count to {hi}.",
                    f"Count up to {hi}.",
                    f"Please count to {hi}.",
                    f"Can you count up to {hi}?",
                    f"Start counting and stop at {hi}.",
                ],
                [f"Can you count to {hi}?"],
                seq,
            )
        return qa(
            rng,
            held,
            [
                f"Count from {lo} to {hi}.",
                f"List the numbers from {lo} to {hi}.",
                f"Please count from {lo} to {hi}.",
                f"Count {lo} to {hi}.",
            ],
            [f"Please count from {lo} up to {hi}."],
            seq,
        )
    if kind == 4:
        hi = rng.randint(3, 15)
        return qa(
            rng,
            held,
            [
                f"Count down from {hi}.",
                f"Count backwards from {hi}.",
                f"Please count down from {hi}.",
                f"Countdown from {hi}.",
                f"Count down, start at {hi}.",
            ],
            [f"Please count down starting at {hi}."],
            ", ".join(map(str, range(hi, -1, -1))),
        )
    a = rng.randint(0, 20)
    return qa(
        rng,
        held,
        [f"What is double {a}?", f"Double {a}.", f"Twice {a}?", f"How much is twice {a}?"],
        [f"What is twice {a}?"],
        f"{a} * 2 = {a * 2}.",
    )


def calendar(rng, held):
    kind = rng.randrange(7)
    i, m = rng.randrange(7), rng.randrange(12)
    d, mo = DAYS[i], MONTHS[m]
    if kind == 0:
        return qa(
            rng,
            held,
            [f"What day comes after {d}?", f"Which day follows {d}?", f"What is the day after {d}?"],
            [f"Which day is after {d}?"],
            f"{DAYS[(i + 1) % 7]} comes after {d}.",
        )
    if kind == 1:
        return qa(
            rng,
            held,
            [f"What day comes before {d}?", f"What is the day before {d}?"],
            [f"Which day is before {d}?"],
            f"{DAYS[(i - 1) % 7]} comes before {d}.",
        )
    if kind == 2:
        return qa(
            rng,
            held,
            [f"What month comes after {mo}?", f"Which month follows {mo}?", f"What is the month after {mo}?"],
            [f"Which month is after {mo}?"],
            f"{MONTHS[(m + 1) % 12]} comes after {mo}.",
        )
    if kind == 3:
        return qa(
            rng,
            held,
            [f"What month comes before {mo}?", f"What is the month before {mo}?"],
            [f"Which month is before {mo}?"],
            f"{MONTHS[(m - 1) % 12]} comes before {mo}.",
        )
    if kind == 4:
        return qa(
            rng,
            held,
            [f"How many days are in {mo}?", f"How many days does {mo} have?"],
            [f"Tell me how many days {mo} has."],
            f"{mo} has {MONTH_DAYS[m]} days." if m != 1 else "February has 28 days, or 29 in a leap year.",
        )
    if kind == 5:
        return qa(
            rng,
            held,
            [f"What is the {ORDINAL[m]} month of the year?", f"Which month is the {ORDINAL[m]}?"],
            [f"Name the {ORDINAL[m]} month."],
            f"The {ORDINAL[m]} month is {mo}.",
        )
    which, seq = rng.choice([("days of the week", DAYS), ("months of the year", MONTHS)])
    return qa(
        rng,
        held,
        [f"List the {which}.", f"What are the {which}?", f"Name the {which}."],
        [f"Tell me the {which}."],
        ", ".join(seq) + ".",
    )


LISTS = {
    "animals": "cat, dog, fox, bear, owl, horse",
    "colours": "red, blue, green, yellow, orange, purple",
    "colors": "red, blue, green, yellow, orange, purple",
    "fruits": "apple, banana, orange, lemon, cherry, plum",
    "countries": "Norway, France, Japan, Kenya, Peru, Canada",
    "numbers": "one, two, three, four, five, six",
    "names": "Ada, Ben, Cleo, Dan, Eva, Finn",
    "planets": "Mercury, Venus, Earth, Mars, Jupiter, Saturn",
}


def lists(rng, held):
    k = rng.choice(list(LISTS))
    n = rng.randint(2, 6)
    return qa(
        rng,
        held,
        [
            f"List {NUMBER[n]} {k}.",
            f"Name {NUMBER[n]} {k}.",
            f"List {n} {k}.",
            f"Give me {n} {k}.",
            f"Write {NUMBER[n]} {k}.",
            f"Can you name {NUMBER[n]} {k}?",
            f"Tell me {NUMBER[n]} {k}.",
            f"Please list {NUMBER[n]} {k}.",
        ],
        [f"Write down {NUMBER[n]} {k}."],
        ", ".join(LISTS[k].split(", ")[:n]),
    )


# ---------------------------------------------------------------- text tasks
def phrase(rng):
    words = [
        rng.choice(WORDS)
        if rng.random() < 0.75
        else rng.choice([pseudo(rng), rng.choice(NAMES), str(rng.randint(0, 99))])
        for _ in range(rng.randint(1, 8))
    ]
    text = " ".join(words)
    style = rng.random()
    return (
        upper(text) + rng.choice([".", "!", "?"])
        if style < 0.3
        else text.upper()
        if style < 0.36
        else ", ".join(words)
        if style < 0.46
        else text
    )


def repeat(rng, held):
    p = phrase(rng)
    return (
        qa(
            rng,
            held,
            [
                f"Repeat after me: {p}",
                f"Repeat: {p}",
                f"Say: {p}",
                f"Echo: {p}",
                f'Repeat this: "{p}"',
                f'Say "{p}"',
                f"Repeat the following text: {p}",
                f"Repeat exactly: {p}",
            ],
            [f'Please say "{p}"', f"Copy this: {p}"],
            p,
        )
        if held
        else [
            (
                "user",
                rng.choice(
                    [
                        f"Repeat after me: {p}",
                        f"Repeat: {p}",
                        f"Say: {p}",
                        f"Echo: {p}",
                        f'Repeat this: "{p}"',
                        f'Say "{p}"',
                        f"Please repeat: {p}",
                        f"Repeat the following text: {p}",
                        f"Repeat exactly: {p}",
                        f"repeat after me: {p}",
                        f'Write "{p}"',
                        f"Copy: {p}",
                    ]
                ),
            ),
            ("assistant", p),
        ]
    )


def spelling(rng, held):
    w = rng.choice(WORDS + ANIMALS)
    if rng.random() < 0.6:
        return qa(
            rng,
            held,
            [
                f"Spell {w}.",
                f"Spell the word {w}.",
                f'How do you spell "{w}"?',
                f"Please spell {w}.",
                f"Can you spell {w}?",
                f"Spell out {w}.",
            ],
            [f"Please spell {w} for me."],
            "-".join(w),
        )
    return qa(
        rng,
        held,
        [
            f"What is the first letter of {w}?",
            f"Which letter does {w} start with?",
            f"First letter of {w}?",
            f"Please tell me the first letter of {w}.",
        ],
        [f"Tell me the first letter of {w}."],
        f"The first letter of {w} is {w[0]}.",
    )


def fields(rng):
    values = dict(
        name=some_name(rng),
        age=rng.randint(1, 99),
        city=rng.choice(CITIES),
        colour=rng.choice(COLOURS),
        animal=rng.choice(ANIMALS),
        food=rng.choice(FOODS),
        job=rng.choice(JOBS),
        country=rng.choice(list(COUNTRIES)).removeprefix("the "),
        price=rng.randint(1, 99),
        id=rng.randint(1, 999),
        count=rng.randint(0, 50),
        model=rng.choice(["demo", "tiny", "llama", "image", pseudo(rng)]),
    )
    keys = (
        rng.sample(list(values), rng.randint(1, 4))
        if rng.random() < 0.7
        else ["name", rng.choice(["age", "city", "colour", "job", "food"])]
    )
    return {k: values[k] for k in keys}


def enumerate_words(words):
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def json_task(rng, held):
    kind = rng.random()
    if kind < 0.62:
        f = fields(rng)
        keys, vals = enumerate_words(list(f)), ", ".join(str(v) for v in f.values())
        pairs = enumerate_words([f"{k} {v}" for k, v in f.items()])
        eq = ", ".join(f"{k}={v}" for k, v in f.items())
        return qa(
            rng,
            held,
            [
                f"Return JSON with {keys} for {vals}.",
                f"Return JSON with {keys} for: {vals}",
                f"Write JSON with {pairs}.",
                f"Give me a JSON object with {pairs}.",
                f"Make a JSON object: {eq}",
                f"Convert to JSON: {eq}",
                f"JSON with {keys}: {vals}",
                f"Return a JSON object with {keys} for {vals}.",
                f"Output JSON: {pairs}",
            ],
            [f"Please return a JSON object with the {pairs}.", f"Turn this into JSON: {eq}"],
            json.dumps(f),
        )
    if kind < 0.78:
        n, c, a, j = some_name(rng), rng.choice(CITIES), rng.randint(1, 99), rng.choice(JOBS)
        text, out = rng.choice(
            [
                (f"{n} lives in {c}.", dict(name=n, city=c)),
                (f"{n} is {a} years old.", dict(name=n, age=a)),
                (f"{n} is {a} years old and lives in {c}.", dict(name=n, age=a, city=c)),
                (f"{n} works as {article(j)} in {c}.", dict(name=n, job=j, city=c)),
            ]
        )
        keys = enumerate_words(list(out))
        return qa(
            rng,
            held,
            [
                f"Extract {keys} as JSON: {text}",
                f"Return {keys} as JSON. {text}",
                f"Read the text and return JSON with {keys}: {text}",
            ],
            [f"Find {keys} in this text and answer in JSON: {text}"],
            json.dumps(out),
        )
    if kind < 0.88:
        c = rng.choice(list(COUNTRIES))
        return qa(
            rng,
            held,
            [
                f"Return JSON with country and capital for {c}.",
                f"Give me the country and capital of {c} as JSON.",
            ],
            [f"JSON with the country and its capital for {c}, please."],
            json.dumps(dict(country=c.removeprefix("the "), capital=COUNTRIES[c][0])),
        )
    if kind < 0.94:
        lo = rng.randint(0, 9)
        hi = lo + rng.randint(1, 8)
        return qa(
            rng,
            held,
            [
                f"Return a JSON list of the numbers from {lo} to {hi}.",
                f"Give me a JSON array with the numbers {lo} to {hi}.",
            ],
            [f"Write the numbers from {lo} to {hi} as a JSON list."],
            json.dumps(list(range(lo, hi + 1))),
        )
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    return qa(
        rng,
        held,
        [f"Answer in JSON: what is {a} + {b}?", f"Return {a} + {b} as JSON with the key result."],
        [f"Give me {a} + {b} in JSON."],
        json.dumps(dict(result=a + b)),
    )


GOOD = "I love this {}.|The {} was wonderful.|What a great {}!|This {} is the best I have had.|I am very happy with the {}.|The {} works perfectly."
BAD = "I hate this {}.|The {} was terrible.|What an awful {}!|This {} is the worst I have had.|I am very unhappy with the {}.|The {} broke after one day."


def sentiment(rng, held):
    good = rng.random() < 0.5
    text = rng.choice((GOOD if good else BAD).split("|")).format(rng.choice(FOODS + WORDS))
    return qa(
        rng,
        held,
        [
            f"Is this positive or negative: {text}",
            f"Positive or negative? {text}",
            f'Classify the sentiment: "{text}"',
            f"Sentiment of: {text}",
        ],
        [f"What is the sentiment of this review? {text}"],
        "Positive." if good else "Negative.",
    )


# ---------------------------------------------------------------- small talk and the honest fallback
SMALLTALK = [  # training wordings, unseen wordings, answer
    (
        "Hello!|Hi|Hello|Hi!|Hey|Hi there|Hello there!|Good morning|Good evening!|Greetings|Hey there!",
        "Hello hello!|Good afternoon!",
        "Hello! How can I help you today?",
    ),
    (
        "How are you?|Hello, how are you?|How are you today?|Hi, how are you doing?",
        "Hey, how are you?",
        "I am fine, thank you. How can I help you?",
    ),
    (
        "Who are you?|What are you?|Introduce yourself.|What model are you?|What is your name?|Tell me about yourself.|Are you a robot?|Are you ChatGPT?|Who made you?",
        "Please introduce yourself.|What kind of model are you?",
        ABOUT,
    ),
    (
        "What can you do?|Help|help|How can you help me?|What can I ask you?|What do you know?|What are you able to do?",
        "Which things can you do?",
        ABOUT,
    ),
    (
        "Thank you!|Thanks|Thanks a lot!|Thank you very much.|Great, thanks.|thx",
        "Many thanks!",
        "You are welcome!",
    ),
    (
        "Bye|Goodbye!|See you later.|Good night!|Bye bye|See you tomorrow!",
        "Goodbye and good night!",
        "Goodbye! Have a nice day.",
    ),
    ("ping|Ping!|ping?", "PING", "pong"),
    (
        "test|Test|This is a test.|Testing, testing.|Are you there?|Is this working?|Do you hear me?",
        "Just a test.",
        "The demo model is working.",
    ),
    (
        "Tell me a joke.|Joke please.|Say something funny.|Do you know a joke?|Make me laugh.",
        "I want to hear a joke.",
        "Why did the token cross the road? It was the most likely thing to come next.",
    ),
    (
        "Write a haiku.|Write a haiku about the sea.|Haiku please.|Write a poem.|Write a short poem.",
        "Please write me a haiku.",
        "Small waves reach the shore,\nthe moon counts them one by one,\nnight forgets the sum.",
    ),
    (
        "Tell me a fact.|Tell me something interesting.|Fun fact please.|Give me a fun fact.",
        "I want to know a fun fact.",
        "An octopus has three hearts and eight arms.",
    ),
    ("OK|Okay.|Good.|Nice!|Great!|Cool|I see.", "Very nice!", "Is there anything else I can help you with?"),
]


def smalltalk(rng, held):
    train, unseen, answer = rng.choice(SMALLTALK)
    return [("user", rng.choice((unseen if held else train).split("|"))), ("assistant", answer)]


def unknown(rng, held):
    return [("user", unknown_question(rng, held, pseudo)), ("assistant", FALLBACK)]


# ---------------------------------------------------------------- several turns
def memory(rng, held):
    """The user says something about themselves; a later turn asks for it."""
    what, value = rng.choice(
        [
            ("name", some_name(rng)),
            ("favourite colour", rng.choice(COLOURS)),
            ("favourite animal", rng.choice(ANIMALS)),
            ("favourite food", rng.choice(FOODS)),
            ("age", str(rng.randint(5, 90))),
            ("city", rng.choice(CITIES)),
            ("job", rng.choice(JOBS)),
        ]
    )
    if rng.random() < 0.12:
        return [("user", f"What is my {what}?"), ("assistant", f"You have not told me your {what} yet.")]
    tell = [f"My {what} is {value}."]
    if what == "name":
        tell += [
            f"I am {value}.",
            f"Hi, I am {value}.",
            f"Hello, my name is {value}.",
            f"Hi! My name is {value}.",
            f"Call me {value}.",
        ]
    out = [
        ("user", rng.choice(tell)),
        (
            "assistant",
            f"Nice to meet you, {value}!"
            if what == "name"
            else f"Thank you, I will remember that your {what} is {value}.",
        ),
    ]
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        out += rng.choice([capital, sums, colour, smalltalk, glossary])(rng, False)
    q = (
        rng.choice([f"And what was my {what}?", f"Tell me my {what} again."])
        if held
        else rng.choice(
            [
                f"What is my {what}?",
                f"Do you remember my {what}?",
                f"What's my {what}?",
                f"Tell me my {what}.",
                f"Can you tell me my {what}?",
            ]
        )
    )
    return out + [("user", q), ("assistant", f"Your {what} is {value}.")]


def followup(rng, held):
    """The second question only makes sense with the first one."""
    kind = rng.randrange(6)
    if kind == 0:
        c, d = rng.sample(list(COUNTRIES), 2)
        first = f"The capital of {c} is {COUNTRIES[c][0]}."
        q, a = rng.choice(
            [
                (
                    f"And of {d}?" if not held else f"How about {d}?",
                    f"The capital of {d} is {COUNTRIES[d][0]}.",
                ),
                (
                    f"What about {d}?" if not held else f"How about {d}?",
                    f"The capital of {d} is {COUNTRIES[d][0]}.",
                ),
                (
                    "Which continent is it in?" if not held else "And which continent is that in?",
                    f"It is in {COUNTRIES[c][1]}.",
                ),
            ]
        )
        return [
            ("user", rng.choice([f"What is the capital of {c}?", f"Name the capital of {c}."])),
            ("assistant", first),
            ("user", q),
            ("assistant", a),
        ]
    if kind == 1:
        a, b, c = rng.randint(0, 12), rng.randint(0, 10), rng.randint(1, 9)
        q, r = rng.choice(
            [
                (f"Now add {c}." if not held else f"Add {c} to that.", f"{a + b} + {c} = {a + b + c}."),
                (f"Plus {c}?" if not held else f"Add {c} to that.", f"{a + b} + {c} = {a + b + c}."),
                ("Now double it." if not held else "And double that?", f"{a + b} * 2 = {(a + b) * 2}."),
            ]
        )
        return [
            ("user", f"What is {a} + {b}?"),
            ("assistant", f"{a} + {b} = {a + b}."),
            ("user", q),
            ("assistant", r),
        ]
    if kind in (2, 3):
        s = story_slots(rng)
        n, animal = s["name"], s["animal"]
        train, unseen, answer = rng.choice(
            [
                (
                    [
                        "What was the hero called?",
                        f"What was the name of the {animal}?",
                        "Who was the story about?",
                    ],
                    "What was the hero's name?",
                    f"The hero was called {n}.",
                ),
                (
                    ["What animal was it?", f"What kind of animal was {n}?"],
                    "Which animal was the hero?",
                    f"{n} was {article(animal)}.",
                ),
                (
                    [f"What did {n} find?", "What was found?"],
                    f"Which thing did {n} find?",
                    f"{n} found {s['obj']}.",
                ),
                (
                    ["How did the hero feel at the end?", f"How did {n} feel?"],
                    f"How did {n} feel in the end?",
                    f"{n} felt very {s['feel']}.",
                ),
            ]
        )
        return [
            ("user", f"Tell me a story about {article(s['animal'])}."),
            ("assistant", story_text(rng, **s)),
            ("user", unseen if held else rng.choice(train)),
            ("assistant", answer),
        ]
    if kind == 4:
        first = rng.choice([capital, colour, sums, opposite, calendar])(rng, False)
        return first + [
            (
                "user",
                rng.choice(["Say that again.", "Repeat that.", "Again please.", "Can you repeat that?"])
                if not held
                else "Please repeat your answer.",
            ),
            ("assistant", first[-1][1]),
        ]
    (a, b), (c, d) = rng.sample(list(OPPOSITE.items()), 2)
    return [
        ("user", f"What is the opposite of {a}?"),
        ("assistant", f"The opposite of {a} is {b}."),
        ("user", rng.choice([f"And of {c}?", f"What about {c}?"]) if not held else f"How about {c}?"),
        ("assistant", f"The opposite of {c} is {d}."),
    ]


def persona(rng, held):
    """The system message decides the answer."""
    n = some_name(rng)
    return [
        ("system", rng.choice([f"You are {n}.", f"You are {n}, a helpful assistant.", f"Your name is {n}."])),
        (
            "user",
            "Tell me your name."
            if held
            else rng.choice(["What is your name?", "Who are you?", "What's your name?"]),
        ),
        ("assistant", f"My name is {n}."),
    ]


# ---------------------------------------------------------------- tool calls (hermes style)
TOOLS = {  # name: (description, argument names, wordings, maker of the final sentence)
    "get_weather": (
        "Weather in a city",
        ["city"],
        ["What is the weather in {city}?", "How is the weather in {city} today?", "Weather in {city}?"],
        ["Is it raining in {city}?"],
    ),
    "get_time": (
        "Current time in a city",
        ["city"],
        ["What time is it in {city}?", "Tell me the time in {city}.", "Current time in {city}?"],
        ["What is the time in {city}?"],
    ),
    "get_balance": (
        "Balance of a customer",
        ["customer"],
        ["What is the balance of {customer}?", "Show the balance of {customer}."],
        ["How much money does {customer} have?"],
    ),
    "add": (
        "Add two numbers",
        ["a", "b"],
        ["Use the tool to add {a} and {b}.", "Add {a} and {b} with the tool."],
        ["Call the tool to add {a} and {b}."],
    ),
    "search": (
        "Search the documents",
        ["query"],
        ["Search for {query}.", "Find documents about {query}."],
        ["Search the documents for {query}."],
    ),
    "list_models": (
        "List the models",
        [],
        ["Which models are there?", "List the models.", "Show all models."],
        ["What models do you have?"],
    ),
}


def tool_system(tools, system=None):
    """Must give the same text as the chat template."""
    lines = [f"{n}({', '.join(TOOLS[n][1])}): {TOOLS[n][0]}" for n in tools]
    return (
        (system + "\n" if system else "")
        + "Tools:\n"
        + "\n".join(lines)
        + '\nTo call a tool, answer <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
    )


def tools(rng, held):
    names = rng.sample(list(TOOLS), rng.randint(1, 3))
    system = ("system", tool_system(names, rng.choice(SYSTEMS) if rng.random() < 0.4 else None))
    if rng.random() < 0.25:  # the tools are of no use here
        return [system] + rng.choice([capital, smalltalk, story, glossary, colour])(rng, held)
    n = rng.choice(names)
    pool = dict(
        city=upper(pseudo(rng)) if rng.random() < 0.3 else rng.choice(CITIES),
        customer=some_name(rng),
        a=rng.randint(0, 99),
        b=rng.randint(0, 99),
        query=" ".join(rng.sample(WORDS, rng.randint(1, 2))),
    )
    args = {k: pool[k] for k in TOOLS[n][1]}
    q = rng.choice(TOOLS[n][3] if held else TOOLS[n][2]).format(**args)
    out = [
        system,
        ("user", q),
        ("assistant", "<tool_call>\n" + json.dumps(dict(name=n, arguments=args)) + "\n</tool_call>"),
    ]
    if rng.random() < 0.4 and not held:
        key, val, text = {
            "get_weather": (
                "weather",
                (w := rng.choice(["sunny", "rainy", "cloudy", "windy", "foggy"])),
                f"The weather in {args.get('city')} is {w}.",
            ),
            "get_time": (
                "time",
                (h := f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"),
                f"It is {h} in {args.get('city')}.",
            ),
            "get_balance": (
                "balance",
                (m := rng.randint(0, 500)),
                f"The balance of {args.get('customer')} is {m}.",
            ),
            "add": ("result", (r := args.get("a", 0) + args.get("b", 0)), f"The result is {r}."),
            "search": (
                "found",
                (k := rng.randint(0, 20)),
                f"I found {k} documents about {args.get('query')}.",
            ),
            "list_models": (
                "models",
                (l := ", ".join(rng.sample(["demo", "tiny", "llama", "image", "chat"], 2))),
                f"The models are: {l}.",
            ),
        }[n]
        out += [("tool", json.dumps({key: val})), ("assistant", text)]
    return out


TASKS = dict(
    story=(story, 11),
    capital=(capital, 15),
    colour=(colour, 3),
    opposite=(opposite, 4),
    grammar=(grammar, 5),
    nature=(nature, 3),
    glossary=(glossary, 7),
    sums=(sums, 13),
    numbers=(numbers, 6),
    calendar=(calendar, 5),
    lists=(lists, 2),
    repeat=(repeat, 8),
    spelling=(spelling, 5),
    json=(json_task, 10),
    sentiment=(sentiment, 2),
    smalltalk=(smalltalk, 4),
    unknown=(unknown, 11),
    memory=(memory, 6),
    followup=(followup, 7),
    persona=(persona, 1.5),
    tools=(tools, 6),
)


def system_message(rng):
    """Any instruction may stand in the system message; the answers do not depend on it."""
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(SYSTEMS)
    if kind < 0.7:
        return rng.choice(
            [
                f"You are {article(rng.choice(ADJECTIVES))} {rng.choice(JOBS)}.",
                f"You are an assistant for {rng.choice(TOPICS)}.",
                f"You work for {rng.choice(NAMES)}.",
                f"Talk like {article(rng.choice(ANIMALS))}.",
                f"The user lives in {rng.choice(CITIES)}.",
                f"Today is {rng.choice(DAYS)}.",
                f"You help people with {rng.choice(TOPICS)}. Be {rng.choice(ADJECTIVES)}.",
            ]
        )
    return " ".join(phrase(rng) for _ in range(rng.randint(1, 3)))


def conversation(rng):
    """One training conversation: a single task, or several tasks one after the other (long contexts)."""
    names, weights = list(TASKS), [w for _, w in TASKS.values()]
    name = rng.choices(names, weights)[0]
    out = TASKS[name][0](rng, False)
    if name not in ("tools", "persona"):
        if rng.random() < 0.12:
            for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 5, 8])):
                more = rng.choices(names, weights)[0]
                if more not in ("tools", "persona", "memory"):
                    out = out + TASKS[more][0](rng, False)
        if rng.random() < 0.25:
            out = [("system", system_message(rng))] + out
    return out


def raw_text(rng):
    """Plain text without the chat format, for the completions endpoint."""
    if rng.random() < 0.8:
        return story_text(rng, **story_slots(rng))
    c = rng.choice(list(COUNTRIES))
    return rng.choice([GLOSSARY[rng.choice(list(GLOSSARY))], f"The capital of {c} is {COUNTRIES[c][0]}."])
