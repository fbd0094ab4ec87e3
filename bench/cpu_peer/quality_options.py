"""What int8 and int4 weights cost in quality, beside llama.cpp's Q8_0 and Q4_0 of the same weights.

    loss   mean negative log likelihood of held-out text, nats a token (the demo model)
    KL     mean KL divergence of the next token's distribution from the same engine's with bf16
           weights, nats a position
    ratio  Baton's KL over llama.cpp's: at most 1 is no worse

Models: demo on held-out text of its own kind; on random tokens those of tests/golden/model that
llama.cpp can quantize, and b (random weights, 530 M). Both engines get the same tokens and the same
bf16 weights; with bf16 weights their logits must agree, else the status is 1.
"""

import argparse
import pathlib

LONGEST_PROMPT = 512


def parse_options():
    parser = argparse.ArgumentParser(prog="bench/cpu_quality.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="of the names printed, with commas; default: all")
    parser.add_argument("--positions", type=int, default=8192,
                        help="of each model; of demo, which differs more from prompt to prompt, 16 "
                        "times as many, and of b a quarter; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--build", type=pathlib.Path, default="build/release",
                        help="Baton's build, default: %(default)s")
    parser.add_argument("--work", type=pathlib.Path, default="build/peer",
                        help="where models are kept, default: %(default)s")
    options = parser.parse_args()
    if options.positions < 8 * LONGEST_PROMPT:
        parser.error(f"--positions is {options.positions}; at least {8 * LONGEST_PROMPT}")
    return options


if __name__ == "__main__":
    parse_options()
