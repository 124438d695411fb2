"""The server's icon as data URIs, for `initialize`; `python -m release.icons` writes this file."""

from typing import Any

ICONS: list[dict[str, Any]] = [
    {
        "src": "data:image/png;base64,"
        "iVBORw0KGgoAAAANSUhEUgAAADAAAAAwCAMAAABg3Am1AAAAYFBMVEXnYWfsm6Fyjeans9zy2N9ETGRhf+SSl6m8yfUbJED09v4wpGwA"
        "AADlSE0+Y92TzrYbJD/Hytbd5PobJEB0eo7u6vUfHz8fKj8bJEAAPz8uN1HT2vHvs7pEZ96Dm+nwxMsZJcsPAAAAIHRSTlP/////////"
        "///+//8A////cP//z///EBivBP///////0wONVsAAAEsSURBVHjatZbdtoIgEIWnrE6YEBqYv/n+b3mIUVcQInPRvnBxsb81MCMzQGFV"
        "y4ZF1cganfD+tJIlSLYL8HywJD2eCKT6kYCiTfYbojWAZATJAmpGUg2SBkhoaEAD61KV+aZKtdoWoIvYLdJ5wI7fEC6g8l0pByj3gdIB"
        "8gT9DtDVBnAC4DCZxf02626N2SsMTNxq8AE9jlUI0IAAP3lAJsQxBAyznx9cQI9CiD4AHDaAl/FjiLQI1TsAhvDPwINnsAEwhJ+lYQnw"
        "CfRi1jVQh8nkCQa3DscFuAQrrbVf5WrVL/+lIEC+D+QbR77T9K5B7kvMyZZWm60vCPRnRgKyjpGAv2g3/gIi20fAbffR7WO7dwdKdPs4"
        "UMgjizwU6WOXPNjpTwf644T0/PkHiplcmjZc89EAAAAASUVORK5CYII=",
        "mimeType": "image/png",
        "sizes": ["48x48"],
    },
    {
        "src": "data:image/svg+xml;base64,"
        "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCA0OCA0OCI+PHJlY3QgeD0iMCIgeT0iMCIg"
        "d2lkdGg9IjQ4IiBoZWlnaHQ9IjQ4IiByeD0iMTEiIGZpbGw9IiMxYjI0NDAiLz48cmVjdCB4PSI2IiB5PSI5IiB3aWR0aD0iMzYiIGhl"
        "aWdodD0iMjUiIHJ4PSI2IiBmaWxsPSIjZjVmN2ZmIi8+PHJlY3QgeD0iMTkuNSIgeT0iMTciIHdpZHRoPSI5IiBoZWlnaHQ9IjkiIGZp"
        "bGw9IiMzMGE0NmMiLz48Y2lyY2xlIGN4PSIxMyIgY3k9IjIxLjUiIHI9IjQuNSIgZmlsbD0iI2U1NDg0ZCIvPjxwb2x5Z29uIHBvaW50"
        "cz0iMTQsMzMgMjQsMzMgMTQsNDEiIGZpbGw9IiNmNWY3ZmYiLz48cG9seWdvbiBwb2ludHM9IjM1LDE2LjUgNDAsMjYgMzAsMjYiIGZp"
        "bGw9IiMzZTYzZGQiLz48L3N2Zz4=",
        "mimeType": "image/svg+xml",
        "sizes": ["any"],
    },
]
