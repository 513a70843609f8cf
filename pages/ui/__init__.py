"""What pages share.

- The frame: `page`, `layout`, `address` (settings in links), `theory` (the explanations), `plane` (one to play with).
- What a visitor chooses: `picture`, `knobs`.
- A job and its answer: `live` (one job on a page), `stage` (problem, answer, status), `results` (the closer look),
  `saved` (the runs that pages open with). `linear`, `sampling` and `structured` hold what differs between the kinds of
  problems.
- Several runs: `series`, and on it `comparison` (methods) and `betas`.
- Pictures and figures: `pixels`, `plots`, and `components`, which run in the browser.
- The page of experiments: `benchmarks`.
"""
