"""An authority and certificates of it for 127.0.0.1, made by the openssl command."""

import subprocess

NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"


def make(directory, *names):
    """Writes ca.pem, and NAME.pem and NAME.key for each name, into `directory`."""
    def openssl(words):
        subprocess.run(["openssl", *words.split()], cwd=directory, check=True, capture_output=True)

    openssl(f"req -x509 {NEW_KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in names:
        openssl(f"req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        openssl(f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
                f"-extfile names -out {name}.pem")
