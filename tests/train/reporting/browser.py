"""Opens pages in a real browser, headless, at two widths, and says what it found there."""

import html
import json
import os
import pathlib
import re
import shutil
import subprocess
from typing import Any

import pytest

WIDTHS = {'phone': 390, 'desktop': 1280}
FOLDER = pathlib.Path(__file__).parent


def chromium() -> str:
    """The browser; without one the test is skipped, or fails where CI runs it."""
    for name in ('chromium', 'chromium-browser', 'google-chrome'):
        if path := shutil.which(name):
            return path
    message = 'no chromium on PATH: the pages were not opened in a browser (Debian: apt install chromium)'
    pytest.fail(message) if os.environ.get('CI') == 'true' else pytest.skip(message)


def look(page: pathlib.Path, tmp_path: pathlib.Path) -> dict[str, Any]:
    """For each width: script errors, overflow in pixels, widths of images and charts, tables after clicks."""
    errors, looking = (f'<script>{(FOLDER / name).read_text()}</script>' for name in ('errors.js', 'look.js'))
    text = html.escape(page.read_text().replace('<head>', '<head>' + errors, 1))
    frames = ''.join(
        f'<iframe name="{name}" style="border:0;width:{width}px;height:900px" srcdoc="{text}"></iframe>'
        for name, width in WIDTHS.items()
    )
    around = tmp_path / 'around.html'
    around.write_text(f'<!DOCTYPE html><body>{frames}{looking}</body>')
    command = [chromium(), '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']
    command += [f'--user-data-dir={tmp_path / "browser"}', '--virtual-time-budget=10000', '--dump-dom']
    done = subprocess.run(
        [*command, around.as_uri()], capture_output=True, text=True, timeout=240, check=True
    )
    (result,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(html.unescape(result))
