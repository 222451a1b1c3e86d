"""Measure a model on the machine that counts: latency, throughput, cold start, memory and layers, with numpy and the
engine only.

- `machine`: what the machine is and what else it was doing.
- `statistics`: percentiles, and whether a difference is real.
- `plans`: the combinations of engine, precision and threads to measure, and the one to recommend.
- `latency`: the interleaved measurement of one request at a time; `throughput`: several in flight.
- `cold_start` and `probe`: a fresh process, from its start to its first result, and its memory.
- `layers`, with one file per engine: time, executed precision and MACs of each layer.
- `roofline`: what bounds each layer, against peaks that `probe_model` and `bandwidth` measure here.
- `report`: all of it as one value that is JSON.
"""
