"""Options of the benchmarks."""


def pytest_addoption(parser):
    parser.addoption(
        "--no-children", action="store_true", help="do not measure first calls and memory in fresh processes"
    )
