"""ArcFace against ArcFace+ on real faces: what benchmarks/results/faces.md shows.

    python3 benchmarks/faces_study.py --faces build/bin/mma-faces --lfw DIR --orl DIR --out DIR [--seeds 1,2,3,4,5]

DIR of --lfw: a folder for each identity and pairs.txt; of --orl: s1 ... s40. Trains each seed without MMA and with it,
verifies LFW's held-out folds, and prints the tables as Markdown. What is there already is not done again; an
interrupted run goes on. Needs SciPy.
"""

import argparse
import json
import pathlib
import subprocess

import numpy
import scipy.stats

METHODS = {"ArcFace": ["--regularizer", "none"], "ArcFace+": ["--regularizer", "mma", "--coefficient", "0.03"]}
HELD_OUT = "8,9,10"
HEAD = ["--scale", "32", "--margin", "0.2"]
LFW = ["--model", "ir-small", "--grey", "--min-images", "4", "--exclude-folds", HELD_OUT, "--epochs", "8",
       "--batch", "64", "--threads", "1"] + HEAD
ORL = ["--model", "ir-small", "--grey", "--hold-out", "5", "--epochs", "30", "--batch", "20", "--threads", "1"] + HEAD


def train(program, out, options):
    """The history of the run in a folder, trained as far as it is not yet."""
    checkpoint = out / "checkpoint.safetensors"
    command = [program, "train"] + (["--resume", "--out", str(out)] if checkpoint.exists() else options + ["--out", str(out)])
    if not (out / "angles.png").exists():
        subprocess.run(command, check=True)
    return [json.loads(line) for line in (out / "metrics.jsonl").open()]


def verify(program, out, lfw):
    result = out / "verification.json"
    if not result.exists():
        command = [program, "verify", str(out / "checkpoint.safetensors"), "--pairs", f"{lfw}/pairs.txt", "--images", lfw,
                   "--folds", HELD_OUT, "--threshold-folds", HELD_OUT, "--threads", "1", "--json"]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        json.loads(text)
        result.write_text(text)
    return json.loads(result.read_text())


def row(name, values):
    """Mean and deviation of both, their difference, the paired test by seed, Welch's, the smallest detectable effect."""
    plain, plus = (numpy.array(values[method]) for method in METHODS)
    n = len(plain)
    cells = [name] + [f"{v.mean():.2f} ± {v.std(ddof=1):.2f}" for v in (plain, plus)]
    difference = plus - plain
    paired = scipy.stats.ttest_rel(plus, plain)
    welch = scipy.stats.ttest_ind(plus, plain, equal_var=False)
    spread = difference.std(ddof=1) / n**0.5
    half = scipy.stats.t.ppf(0.975, n - 1) * spread
    detectable = (scipy.stats.t.ppf(0.975, n - 1) + scipy.stats.t.ppf(0.8, n - 1)) * spread
    cells += [f"{difference.mean():+.2f} ({difference.mean() - half:+.2f} to {difference.mean() + half:+.2f})",
              f"{paired.pvalue:.3f}", f"{welch.pvalue:.3f}", f"{detectable:.2f}"]
    print("| " + " | ".join(cells) + " |")


def table(title, measures):
    print(f"\n{title}\n")
    print("| | ArcFace | ArcFace+ | difference (95 % interval) | paired p | Welch p | smallest detectable |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, values in measures.items():
        row(name, values)


def add(measures, name, method, value):
    measures.setdefault(name, {m: [] for m in METHODS})[method].append(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True)
    parser.add_argument("--lfw", required=True)
    parser.add_argument("--orl", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    arguments = parser.parse_args()
    lfw, orl = {}, {}
    for seed in arguments.seeds.split(","):
        for method, options in METHODS.items():
            out = arguments.out / f"lfw-{method}-seed{seed}"
            run = train(arguments.faces, out, ["--data", arguments.lfw, "--exclude-pairs", f"{arguments.lfw}/pairs.txt",
                                               "--seed", seed] + LFW + options)
            verified = verify(arguments.faces, out, arguments.lfw)["sets"][0]
            add(lfw, "accuracy on the held-out folds, %", method, verified["accuracy_percent"])
            add(lfw, "area under the ROC, %", method, 100 * verified["auc"])
            add(lfw, "equal error rate, %", method, verified["eer_percent"])
            add(lfw, "minimal angle of the head, degrees", method, run[-1]["minimal_angle_degrees"]["head"])
    for seed in arguments.seeds.split(","):
        for method, options in METHODS.items():
            run = train(arguments.faces, arguments.out / f"orl-{method}-seed{seed}",
                        ["--data", arguments.orl, "--seed", seed] + ORL + options)
            add(orl, "top-1, mean of the last five epochs, %", method, numpy.mean([e["top1_percent"] for e in run[-5:]]))
            add(orl, "minimal angle of the head, degrees", method, run[-1]["minimal_angle_degrees"]["head"])
    table("LFW", lfw)
    table("ORL", orl)


if __name__ == "__main__":
    main()
