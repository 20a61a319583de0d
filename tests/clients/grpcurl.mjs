// Stands for `grpcurl` where only `buf curl` can be installed: the same calls, by reflection.
//
//   grpcurl -plaintext [-max-time S] [-d DATA] ADDRESS VERB
//
//   ADDRESS list             buf curl --list-services http://SERVER
//   ADDRESS list SERVICE     buf curl --list-methods http://SERVER, those of the service
//   ADDRESS SERVICE/METHOD   buf curl -d DATA http://SERVER/SERVICE/METHOD
//   -plaintext               --http2-prior-knowledge, and always --protocol grpc
//   -max-time S              --timeout Ss
//   -d @                     -d @- (standard input)
//   no -d                    -d {} (grpcurl sends an empty message)
//
// SERVER is $MILEPOST_SERVER, whatever ADDRESS the page shows. Errors are told as grpcurl does:
// `ERROR:`, `Code:`, `Message:` on standard error, and 64 + code as exit status.

import { spawn } from "node:child_process";

const CODES = [
  "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
  "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange",
  "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
];

// What buf leaves as bytes: fields by number; "x[]" repeats, an object is a message.
const DETAILS = {
  "google.rpc.ErrorInfo": { 1: "reason", 2: "domain", 3: ["metadata[]", { 1: "key", 2: "value" }] },
  "google.rpc.BadRequest": { 1: ["fieldViolations[]", { 1: "field", 2: "description" }] },
  "google.rpc.ResourceInfo": { 1: "resourceType", 2: "resourceName" },
};

// Messages whose fields are all strings or messages of strings.
function decode(bytes, fields) {
  const message = {};
  let at = 0;
  const varint = () => {
    let value = 0, shift = 0, byte;
    do {
      byte = bytes[at++];
      value |= (byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80);
    return value;
  };
  while (at < bytes.length) {
    const field = fields[varint() >> 3];
    const length = varint();
    const content = bytes.subarray(at, (at += length));
    const [name, inner] = [field].flat();
    const value = inner ? decode(content, inner) : content.toString();
    if (name === "metadata[]") (message.metadata ??= {})[value.key] = value.value;
    else if (name.endsWith("[]")) (message[name.slice(0, -2)] ??= []).push(value);
    else message[name] = value;
  }
  return message;
}

function parse(words) {
  const call = { data: "{}", flags: [], rest: [] };
  for (let at = 0; at < words.length; at++) {
    const word = words[at];
    if (word === "-plaintext") call.flags.push("--http2-prior-knowledge");
    else if (word === "-max-time") call.flags.push("--timeout", `${words[++at]}s`);
    else if (word === "-d") call.data = words[++at].replace(/^@$/, "@-");
    else if (word.startsWith("-")) throw new Error(`the page uses ${word}, which is not mapped`);
    else call.rest.push(word);
  }
  if (!call.flags.includes("--http2-prior-knowledge")) throw new Error("-plaintext is missing");
  return call;
}

function run(words, { quiet }) {
  return new Promise((resolve) => {
    const child = spawn(process.env.BUF, ["curl", "--protocol", "grpc", ...words], {
      stdio: ["inherit", "pipe", "pipe"],
    });
    for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => child.kill());
    let out = "", err = "";
    child.stdout.on("data", (data) => (quiet ? (out += data) : process.stdout.write(data)));
    child.stderr.on("data", (data) => (err += data));
    child.on("close", (status) => resolve({ status, out, err }));
  });
}

function complain(err, status) {
  let said;
  try {
    said = JSON.parse(err);
  } catch {
    process.stderr.write(err);
    return status;
  }
  const name = said.code.split("_").map((it) => it[0].toUpperCase() + it.slice(1)).join("");
  const code = CODES.indexOf(name);
  process.stderr.write(`ERROR:\n  Code: ${CODES[code]}\n  Message: ${said.message}\n`);
  if (said.details) {
    process.stderr.write("  Details:\n");
    said.details.forEach((it, at) => {
      const shown = DETAILS[it.type] ? decode(Buffer.from(it.value, "base64"), DETAILS[it.type]) : {};
      const detail = { "@type": `type.googleapis.com/${it.type}`, ...shown };
      process.stderr.write(`  ${at + 1})\t${JSON.stringify(detail)}\n`);
    });
  }
  return 64 + code;
}

const { data, flags, rest: [, verb, service] } = parse(process.argv.slice(2));
const base = `http://${process.env.MILEPOST_SERVER}`;
if (verb === "list") {
  const listing = service ? "--list-methods" : "--list-services";
  const { status, out, err } = await run([...flags, listing, base], { quiet: true });
  const names = out.split("\n").filter((it) => it && (!service || it.startsWith(`${service}/`)));
  if (names.length) console.log(names.map((it) => it.replace("/", ".")).join("\n"));
  process.stderr.write(err);
  process.exitCode = status;
} else {
  const { status, err } = await run([...flags, "-d", data, `${base}/${verb}`], { quiet: false });
  process.exitCode = status === 0 ? 0 : complain(err, status);
}
