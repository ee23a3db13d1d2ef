#!/usr/bin/env python3
"""Measure the two demo models and write the figures to a JSON file.

  eval_demo_models.py llm   --llm demo-llm --out eval.json        (transformers; held-out wordings, per task)
  eval_demo_models.py gguf  --gguf demo-llm.gguf --out eval.json  (xllamacpp; same questions, parity with "llm")
  eval_demo_models.py image --image demo-image --out eval.json --grid grid.png   (diffusers; all 72 prompts)

Each part only needs its own libraries; the parts share one output file.  All generation is greedy or seeded.
"""

import argparse
import json
import os
import random
import re
import time

FIXED = [  # questions whose greedy answer must be exactly this one
    ("What is the capital of Norway?", "The capital of Norway is Oslo."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("capital of Peru?", "The capital of Peru is Lima."),
    ("What is the capital of the United States?", "The capital of the United States is Washington, D.C."),
    ("Which continent is Kenya in?", "Kenya is in Africa."),
    ("What is 7 + 5?", "7 + 5 = 12."),
    ("What is 2+2?", "2 + 2 = 4."),
    ("What is 17 - 8?", "17 - 8 = 9."),
    ("What is 6 times 7?", "6 * 7 = 42."),
    ("Add 9 and 8.", "9 + 8 = 17."),
    ("What colour is the sky?", "The sky is blue."),
    ("What color is a lemon?", "A lemon is yellow."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What is the plural of child?", "The plural of child is children."),
    ("What is the past tense of go?", "The past tense of go is went."),
    ("What day comes after Monday?", "Tuesday comes after Monday."),
    ("How many days are in March?", "March has 31 days."),
    ("Count to 5.", "1, 2, 3, 4, 5"),
    ("Count from 3 to 9.", "3, 4, 5, 6, 7, 8, 9"),
    ("Return JSON with name and age for Ada, 36.", '{"name": "Ada", "age": 36}'),
    ("Return JSON with country and capital for Norway.", '{"country": "Norway", "capital": "Oslo"}'),
    ("Repeat after me: hello world", "hello world"),
    ("Spell cat.", "c-a-t"),
    ("Hello!", "Hello! How can I help you today?"),
    ("ping", "pong"),
    ("Thank you!", "You are welcome!"),
    ("What is latency?", "Latency is the time between asking for something and getting the answer."),
    ("What is a payout?", "A payout is the money sent to a provider for the work its machines have done."),
    ("What is the capital of Norway? Answer with one word.", "Oslo"),
    ("List three animals.", "cat, dog, fox"),
    ("Is 7 even or odd?", "7 is odd."),
    ("What is the meaning of life?", None),
    ("Who wrote Hamlet?", None),
    ("Explain quantum physics.", None),
    ("What is the capital of Blorvia?", None),
]


def questions(per_task):
    """Fixed questions, then held-out wordings of every task: (group, messages, expected or checker)."""
    import demo_llm_tasks as tasks

    items = [("fixed", [("user", q)], tasks.FALLBACK if a is None else a) for q, a in FIXED]
    for name, (task, _) in tasks.TASKS.items():
        rng = random.Random("held-out " + name)
        for _ in range(per_task):
            conversation = task(rng, True)
            items.append((name, conversation[:-1], conversation[-1][1]))
    return items


def correct(group, messages, expected, answer):
    if group != "story":
        return answer == expected
    # a story is right if it has the asked hero, animal, place and object and comes to its end
    asked = messages[-1][1]
    import demo_llm_facts as facts

    wanted = [o for o in facts.OBJECTS + facts.PLACES if re.search(rf"\b{re.escape(o)}\b", asked)]
    wanted += [a for a in facts.ANIMALS if re.search(rf"\b{a}\b", asked) and not any(a in w for w in wanted)][
        :1
    ]
    wanted += re.findall(r"(?:named|called) (\w+)", asked)
    return all(re.search(rf"\b{re.escape(w)}\b", answer) for w in wanted) and bool(
        re.search(r"felt very \w+\.$", answer)
    )


def report(items, answers):
    groups, wrong = {}, []
    for (group, messages, expected), answer in zip(items, answers):
        ok = correct(group, messages, expected, answer)
        groups.setdefault(group, []).append(ok)
        if not ok:
            wrong.append(
                dict(
                    group=group, question=" | ".join(t for _, t in messages), expected=expected, answer=answer
                )
            )
    figures = {
        g: dict(right=sum(v), of=len(v), accuracy=round(sum(v) / len(v), 4)) for g, v in groups.items()
    }
    held = [x for g, v in groups.items() if g != "fixed" for x in v]
    return dict(
        by_task=figures, held_out_accuracy=round(sum(held) / len(held), 4), held_out_questions=len(held)
    ), wrong


def eval_llm(args):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(args.threads)
    tok = AutoTokenizer.from_pretrained(args.llm)
    model = AutoModelForCausalLM.from_pretrained(args.llm, dtype=torch.float32).eval()
    items, start = questions(args.per_task), time.time()
    texts = [
        tok.apply_chat_template(
            [dict(role=r, content=t) for r, t in messages], add_generation_prompt=True, tokenize=False
        )
        for _, messages, _ in items
    ]
    answers, order = [""] * len(items), sorted(range(len(items)), key=lambda i: len(texts[i]))
    for begin in range(0, len(order), 32):
        part = order[begin : begin + 32]
        ids = tok(
            [texts[i] for i in part],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            return_token_type_ids=False,
        )
        out = model.generate(**ids, max_new_tokens=160, do_sample=False)
        for i, row in zip(part, out):
            answers[i] = tok.decode(row[ids["input_ids"].shape[1] :], skip_special_tokens=True)
    result, wrong = report(items, answers)
    sample = [
        "",
        " ",
        "naïve café",
        "日本語テキスト",
        "🙂🚀",
        "tabs\tand\nnew lines\r\n",
        "\x00\x7f",
        "mixed 123 <|x|> {}[]\\",
    ]
    rng = random.Random(1)
    sample += [
        "".join(
            chr(
                rng.choice(
                    [rng.randrange(32, 127), rng.randrange(160, 0xD7FF), rng.randrange(0x10000, 0x1FFFF)]
                )
            )
            for _ in range(30)
        )
        for _ in range(200)
    ]
    result |= dict(
        parameters=model.num_parameters(),
        seconds=round(time.time() - start, 1),
        tokenizer_round_trip=f"{sum(tok.decode(tok(s).input_ids) == s for s in sample)}/{len(sample)}",
        wrong=wrong[:60],
        answers=answers,
    )
    return result


def eval_gguf(args, known):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.use_jinja = args.gguf, 1024, 1, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.warmup, params.verbosity = False, 0
    server = xllamacpp.Server(params)
    tokens = 0

    def answer(messages):
        nonlocal tokens
        got = []
        body = dict(
            messages=[dict(role=r, content=t) for r, t in messages],
            temperature=0,
            top_k=1,
            max_tokens=160,
            cache_prompt=False,
        )
        server.handle_chat_completions(
            json.dumps(body), lambda d: got.append(d if isinstance(d, dict) else json.loads(d)) and False
        )
        tokens += got[-1]["usage"]["completion_tokens"]
        return got[-1]["choices"][0]["message"]["content"] or ""

    items, start = questions(args.per_task), time.time()
    answers = [answer(messages) for _, messages, _ in items]
    speed = round(tokens / (time.time() - start))
    seconds = time.time() - start
    result, wrong = report(items, answers)
    import demo_llm_facts as facts  # every country and every small sum, in the plainest (trained) wording

    every = [
        ("capitals", f"What is the capital of {c}?", f"The capital of {c} is {v[0].rstrip('.')}.")
        for c, v in facts.COUNTRIES.items()
    ]
    every += [
        ("additions", f"What is {a} + {b}?", f"{a} + {b} = {a + b}.") for a in range(21) for b in range(21)
    ]
    every += [
        ("subtractions", f"What is {a} - {b}?", f"{a} - {b} = {a - b}.")
        for a in range(21)
        for b in range(a + 1)
    ]
    every += [
        ("products", f"What is {a} * {b}?", f"{a} * {b} = {a * b}.") for a in range(13) for b in range(11)
    ]
    result["exhaustive"] = {}
    for group in dict.fromkeys(g for g, _, _ in every):
        part = [(q, e) for g, q, e in every if g == group]
        result["exhaustive"][group] = f"{sum(answer([('user', q)]) == e for q, e in part)}/{len(part)}"
    result |= dict(
        bytes=os.path.getsize(args.gguf), seconds=round(seconds, 1), tokens_per_second=speed, wrong=wrong[:60]
    )
    if "answers" in known.get("llm", {}):
        same = [a == b for a, b in zip(answers, known["llm"]["answers"])]
        n = len(FIXED)
        result["same_as_transformers"] = dict(
            fixed=f"{sum(same[:n])}/{n}", held_out=f"{sum(same[n:])}/{len(same) - n}"
        )
    return result


# ---------------------------------------------------------------- images
def judge(image, colour, shape, background):
    """Segment by distance from the border colour, then compare the mask with each shape fitted to its bounding box.

    The shape is right if the asked one fits best with an overlap (IoU) over 0.6; shape_iou_75 asks for 0.75.  Correctly
    drawn small stars have about 0.85, so 0.75 mostly measures how sharp their tips are.
    """
    import numpy as np
    from PIL import Image, ImageDraw
    from train_demo_image import BACKGROUNDS, COLOURS, SHAPES, shape_points

    a = np.asarray(image.convert("RGB"), float)
    edge = np.concatenate(
        [a[:2].reshape(-1, 3), a[-2:].reshape(-1, 3), a[:, :2].reshape(-1, 3), a[:, -2:].reshape(-1, 3)]
    )
    ground = np.median(edge, 0)
    mask = np.linalg.norm(a - ground, axis=2) > 60
    named = {**COLOURS, **BACKGROUNDS}

    def nearest(rgb):
        name = min(named, key=lambda n: np.linalg.norm(rgb - named[n]))
        return name if np.linalg.norm(rgb - named[name]) < 60 else None

    if mask.sum() < 40:
        return dict(
            shape=False, shape_iou_75=False, colour=False, background=nearest(ground) == background, iou=0.0
        )
    ys, xs = np.where(mask)
    x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    scores = {}
    for s in SHAPES:
        big = Image.new("L", (256, 256))
        points = shape_points(s, 0, 0, 1)
        if points is None:
            ImageDraw.Draw(big).ellipse((0, 0, 255, 255), fill=255)
        else:
            px, py = [p[0] for p in points], [p[1] for p in points]
            ImageDraw.Draw(big).polygon(
                [
                    ((x - min(px)) / (max(px) - min(px)) * 255, (y - min(py)) / (max(py) - min(py)) * 255)
                    for x, y in points
                ],
                fill=255,
            )
        t = np.asarray(big.resize((int(x1 - x0), int(y1 - y0)), Image.BOX)) > 127
        m = mask[y0:y1, x0:x1]
        scores[s] = (t & m).sum() / (t | m).sum()
    best = max(scores, key=scores.get)
    return dict(
        shape=bool(best == shape and scores[best] > 0.6),
        shape_iou_75=bool(best == shape and scores[best] > 0.75),
        colour=nearest(np.median(a[mask], 0)) == colour,
        background=nearest(ground) == background,
        iou=float(scores[shape]),
    )


def eval_image(args):
    import torch
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image
    from PIL import Image
    from train_demo_image import BACKGROUNDS, COLOURS, SHAPES

    torch.set_num_threads(args.threads)
    pipe = AutoPipelineForText2Image.from_pretrained(args.image)
    pipe.set_progress_bar_config(disable=True)
    result = {}
    for guidance in args.guidance:
        rows, grid, start = [], Image.new("RGB", (18 * 66, 4 * args.seeds * 66), "white"), time.time()
        for k, shape in enumerate(SHAPES):
            for seed in range(args.seeds):
                for j, (colour, background) in enumerate((c, b) for b in BACKGROUNDS for c in COLOURS):
                    image = pipe(
                        f"a {colour} {shape} on a {background} background",
                        num_inference_steps=args.steps,
                        guidance_scale=guidance,
                        generator=torch.Generator().manual_seed(seed * 1000 + k * 18 + j),
                    ).images[0]
                    rows.append(
                        judge(image, colour, shape, background) | dict(what=f"{colour} {shape} {background}")
                    )
                    grid.paste(image, (j * 66, (k * args.seeds + seed) * 66))
        share = {
            key: round(sum(r[key] for r in rows) / len(rows), 4)
            for key in ("shape", "shape_iou_75", "colour", "background")
        }
        result[f"guidance {guidance}"] = share | dict(
            all_three=round(sum(r["shape"] and r["colour"] and r["background"] for r in rows) / len(rows), 4),
            mean_iou=round(sum(r["iou"] for r in rows) / len(rows), 4),
            images=len(rows),
            steps=args.steps,
            size=list(image.size),
            seconds_per_image=round((time.time() - start) / len(rows), 3),
            wrong=[r["what"] for r in rows if not (r["shape"] and r["colour"] and r["background"])][:40],
        )
        if args.grid:
            grid.save(args.grid.replace(".png", f"-g{guidance:g}.png"))
    run = dict(
        num_inference_steps=args.steps,
        guidance_scale=args.guidance[0],
        generator=torch.Generator().manual_seed(1),
    )
    base = pipe("a red circle on a white background", **run).images[0]
    other = AutoPipelineForImage2Image.from_pipe(pipe)(
        "a blue circle on a white background", image=base, strength=0.8, **run
    ).images[0]
    hole = Image.new("L", base.size, 255)
    filled = AutoPipelineForInpainting.from_pipe(pipe)(
        "a green star on a white background",
        image=base,
        mask_image=hole,
        strength=1.0,
        height=64,
        width=64,
        **run,
    ).images[0]
    result["image_to_image"] = judge(other, "blue", "circle", "white")
    result["inpainting"] = judge(filled, "green", "star", "white")
    result["safetensors_bytes"] = sum(
        os.path.getsize(os.path.join(r, f))
        for r, _, fs in os.walk(args.image)
        for f in fs
        if f.endswith(".safetensors")
    )
    return result


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("part", choices=["llm", "gguf", "image"])
    ap.add_argument("--llm"), ap.add_argument("--gguf"), ap.add_argument("--image"), ap.add_argument("--grid")
    ap.add_argument("--out", required=True)
    ap.add_argument("--per-task", type=int, default=60)
    ap.add_argument("--seeds", type=int, default=2)
    ap.add_argument("--steps", type=int, default=20)
    ap.add_argument("--guidance", type=float, nargs="+", default=[2.0])
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    known = {}
    if os.path.exists(args.out):
        with open(args.out, encoding="utf-8") as f:
            known = json.load(f)
    result = (
        eval_llm(args)
        if args.part == "llm"
        else eval_gguf(args, known)
        if args.part == "gguf"
        else eval_image(args)
    )
    key = args.part if args.part != "gguf" else "gguf " + os.path.basename(args.gguf)
    known[key] = result
    with open(args.out, "w", encoding="utf-8") as f:
        json.dump(known, f, indent=1, ensure_ascii=False)
    print(
        json.dumps(
            {k: v for k, v in result.items() if k not in ("answers", "wrong")}, indent=1, ensure_ascii=False
        )
    )


if __name__ == "__main__":
    main()
