"""What every page shares.

A page says which problem and in which words; it calls, from top to bottom,

- `layout.heading` and `layout.columns` for the frame;
- `picture.pick`, then `runs.simulate` or `runs.given`, for the problem, and `knobs` for the settings;
- `address.write`, so that a link repeats the run;
- `stage.run_button` and `stage.show` for the problem, the run and its answer at a glance;
- `theory.fold` for what is happening;
- `results.show` for the closer look, and `sweep.show` for a score against a setting.

The page for structured noise has its own of most: `noise_knobs`, `removals` for the problem and the run,
`removal_stage`, `removal_results`, `methods`, and `subjects` for the pictures.

The page of benchmarks, `benchmarks` for its views, reads committed rows by `benchmark_rows`, shows them by
`benchmark_plots` and `benchmark_table`, and measures one by `benchmark_run`.

`draw.strokes` lets the visitor draw, `views` makes pictures of other measurements, `examples` are the saved runs.
"""
