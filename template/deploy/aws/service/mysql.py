"""Creates the user of the service and its database, unless they exist, and sets the user's password."""

import os
import ssl

import pymysql
from sqlalchemy import make_url

url = make_url(os.environ["DATABASE_URL"])
# Encrypted if the URL of the service is. The network is private, and the authority of RDS is not in the image.
tls = ssl.create_default_context()
tls.check_hostname = False
tls.verify_mode = ssl.CERT_NONE

with (
    pymysql.connect(
        host=url.host,
        port=url.port,
        user=os.environ["ADMINISTRATOR_NAME"],
        password=os.environ["ADMINISTRATOR_PASSWORD"],
        ssl=tls if "ssl-mode" in url.query else None,
        connect_timeout=10,
    ) as administrator,
    administrator.cursor() as cursor,
):
    cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{url.database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    cursor.execute("CREATE USER IF NOT EXISTS %s@'%%'", [url.username])
    cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", [url.username, url.password])
    cursor.execute(f"GRANT ALL ON `{url.database}`.* TO %s@'%%'", [url.username])
