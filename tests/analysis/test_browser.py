"""The HTML report in a real headless browser: no console error, sorting and filtering work, nothing overflows."""

from __future__ import annotations

import shutil

import pytest
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack.analysis.report import render
from xorpack.checkpoint.report import report_checkpoint


@pytest.fixture(scope="module")
def browser(request):
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if path is None or driver is None:
        reason = "needs chromium and chromedriver (Debian: chromium, chromium-driver)"
        if request.config.getoption("--require-browser"):
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = path
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pages")
    plain, encoded = directory / "plain.safetensors", directory / "encoded.safetensors"
    tensors = {f"m.{i}.weight": pruned((96, 64 * (i + 1)), 0.5 + 0.1 * i, seed=i) for i in range(5)}
    save_file({**tensors, "m.0.bias": pruned((96,), 0.0)}, plain)
    xorpack.encode_checkpoint(plain, encoded, bits=2)
    for path in (plain, encoded):
        page = render(report_checkpoint(path, sample=20_000, n_maps=3), "html")
        path.with_suffix(".html").write_text(page, encoding="utf-8")
    return directory


@pytest.mark.parametrize("name", ["plain", "encoded"])
def test_the_page_opens_without_a_console_message(browser, pages, name) -> None:
    browser.get((pages / f"{name}.html").as_uri())
    assert browser.get_log("browser") == []
    assert browser.title.startswith("Compression report")
    assert len(browser.find_elements("css selector", "figure svg")) == (4 if name == "encoded" else 2)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert all(url.startswith("data:") for url in loaded)


@pytest.mark.parametrize("width", [500, 1300])
def test_nothing_overflows_the_page(browser, pages, width) -> None:
    browser.set_window_size(width, 900)
    browser.get((pages / "encoded.html").as_uri())
    across, room = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert across <= room


def test_columns_sort_both_ways(browser, pages) -> None:
    browser.get((pages / "encoded.html").as_uri())
    heads = browser.find_elements("css selector", "table.sortable th")
    names = [head.text for head in heads]

    def column(i: int) -> list[str]:
        cells = browser.find_elements("css selector", f"table.sortable tbody td:nth-child({i + 1})")
        return [cell.text for cell in cells]

    for name in ("sparsity", "overhead"):
        i = names.index(name)
        for down in (True, False):
            heads[i].find_element("css selector", "button").click()
            values = [float(text) for text in column(i)]
            assert values == sorted(values, reverse=down)
            assert heads[i].get_attribute("aria-sort") == ("descending" if down else "ascending")
    heads[0].find_element("css selector", "button").click()
    assert column(0) == sorted(column(0), reverse=True)
    assert browser.get_log("browser") == []


def test_names_are_filtered(browser, pages) -> None:
    browser.get((pages / "encoded.html").as_uri())
    browser.find_element("css selector", "#tensors input").send_keys("M.3")
    rows = browser.find_elements("css selector", "table.sortable tbody tr")
    assert [row.is_displayed() for row in rows] == [i == 3 for i in range(5)]
