"""The tasks of RULER (Hsieh et al. 2024, arXiv 2404.06654) that need no download.

Written anew after github.com/NVIDIA/RULER (Apache-2.0), whose wording the prompts have; with its seed, and the same
words and tokenizer, the prompts are its prompts to the letter. What differs is named in docs/evals.md.
"""
