#!/usr/bin/env python3
"""gpu_rows.py on the JSON of one bench, with what a device tells of its power and without."""
import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import gpu_rows

SPREAD = {'median': 400.0, 'p10': 399.0, 'p90': 402.0}
REPORT = {
    'workload': 'e2e', 'n': 3, 'commit': 'abc', 'warmup_build_ms': 1.0, 'memory': {}, 'images_per_second': 2.5,
    'build_cold_ms': 5.0, 'build_warm_ms': None, 'total': SPREAD,
    'modules': {'clip+clip2': SPREAD, 'unetxl': SPREAD, 'vae': SPREAD},
    'plans': [{'component': 'vae_decoder', 'precision': 'bf16'}],
    'request': {'width': 1024, 'steps': 4, 'batch_size': 1, 'batch_count': 1, 'cfg': True, 'negative_prompt': None,
                'precision': 'fp16'},
}
POWER = {'energy_j_per_image': 402.4567, 'power_w': 610.449, 'power_limit_w': 700.0, 'sm_clock_mhz': 1605.0}


def rows_of(report):
    with tempfile.TemporaryDirectory() as folder:
        bench, device = pathlib.Path(folder, 'bench.json'), pathlib.Path(folder, 'device.txt')
        bench.write_text(json.dumps(report) + '\n' + json.dumps({'workload': 'op'}) + '\n')
        device.write_text('name, clock\nNVIDIA H200, 1980\n')
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            gpu_rows.print_rows(str(bench), str(device), 'halftone bench e2e', 'fp16')
    return [json.loads(line) for line in out.getvalue().splitlines()]


class GpuRows(unittest.TestCase):
    def test_images_tell_the_power(self):
        rows = rows_of(REPORT | POWER)
        self.assertEqual([row['workload'] for row in rows],
                         ['sdxl_unet_step_1024_b2', 'vae_decode_1024', 'text_encoders_b1', 'sdxl_image_1024_s4'])
        rounded = {'energy_j_per_image': 402.46, 'power_w': 610.45, 'power_limit_w': 700.0, 'sm_clock_mhz': 1605.0}
        self.assertEqual({key: rows[3][key] for key in POWER}, rounded)
        for row in rows[:3]:  # of the whole run, not of its parts
            self.assertFalse(POWER.keys() & row.keys())

    def test_what_is_unknown_is_absent(self):
        self.assertFalse(POWER.keys() & rows_of(REPORT)[3].keys())
        self.assertEqual(POWER.keys() & rows_of(REPORT | {'power_limit_w': 700.0})[3].keys(), {'power_limit_w'})


if __name__ == '__main__':
    unittest.main()
