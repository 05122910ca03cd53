// Draws openapi.json: operations with their bodies, answers and examples, then the schemas.

const find = (id) => document.getElementById(id);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function code(text) {
  const block = element("pre", "", element("code", "", text));
  block.tabIndex = 0; // so that a keyboard can scroll it
  return block;
}

const sentence = (text) => (text ?? "").replace(/`/g, "");

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.additionalProperties?.type) return `mapping to ${schema.additionalProperties.type}`;
  return schema.format === "binary" ? "file" : (schema.type ?? "anything");
}

function terms(pairs) {
  return element("dl", "", ...pairs.flatMap(([term, told]) => [
    element("dt", "", element("code", "", term)),
    element("dd", "", told),
  ]));
}

function bodyOf(operation) {
  const content = operation.requestBody?.content;
  if (!content) return [];
  const pairs = Object.entries(content).map(([type, { schema }]) => {
    const fields = Object.entries(schema.properties ?? {});
    const told = fields.map(([name, field]) => `field ${name}: ${typeOf(field)}`).join(", ");
    return [type, told || sentence(schema.description) || (schema.$ref ? typeOf(schema) : "the photo itself")];
  });
  return [element("h3", "", "Body"), terms(pairs)];
}

function answersOf(operation) {
  const pairs = [];
  const examples = [];
  for (const [status, { description, content }] of Object.entries(operation.responses)) {
    const [type, { schema, ...shown }] = Object.entries(content ?? {})[0] ?? ["", {}];
    pairs.push([status, [description, typeOf(schema), type].filter(Boolean).join(" · ")]);
    const example = shown.example ?? Object.values(shown.examples ?? {})[0]?.value;
    if (example) examples.push([status, example]);
  }
  return [
    element("h3", "", "Answers"),
    terms(pairs),
    ...examples.slice(0, 2).flatMap(([status, example]) => [
      element("h3", "", `Example of ${status}`),
      code(JSON.stringify(example, null, 2)),
    ]),
  ];
}

function keysOf(operation) {
  if (!operation.security) return [];
  const always = operation.security.every((scheme) => Object.keys(scheme).length);
  const which = always ? "An admin's key" : "A key, where the service asks for one,";
  return [element("p", "quiet", `${which} goes into X-API-Key or Authorization: Bearer.`)];
}

function operationOf(path, verb, operation) {
  const heading = element("span", "verb", verb.toUpperCase());
  const details = element(
    "details",
    "operation",
    element("summary", "", heading, element("code", "", path)),
    element("p", "", sentence(operation.description)),
    ...keysOf(operation),
    ...bodyOf(operation),
    ...answersOf(operation),
  );
  details.open = path === "/v1/classify";
  return details;
}

function schemaOf(name, schema) {
  const needed = new Set(schema.required ?? []);
  const pairs = Object.entries(schema.properties ?? {}).map(([field, about]) => {
    const optional = needed.has(field) ? "" : "optional";
    return [field, [typeOf(about), optional, sentence(about.description)].filter(Boolean).join(" · ")];
  });
  const summary = element("summary", "", element("code", "", name));
  return element("details", "schema", summary, element("p", "", sentence(schema.description)), terms(pairs));
}

async function draw() {
  const api = await (await fetch("openapi.json")).json();
  const base = new URL(".", location.href).href;
  find("lead").textContent = `${api.info.description} Version ${api.info.version}.`;
  find("curl").textContent =
    `curl -F file=@bottle.jpg -F file=@can.jpg ${base}v1/classify\n` +
    `curl -H 'Content-Type: image/jpeg' --data-binary @bottle.jpg ${base}v1/classify`;
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const [verb, operation] of Object.entries(operations)) {
      find("operations").append(operationOf(path, verb, operation));
    }
  }
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    find("schemas").append(schemaOf(name, schema));
  }
}

draw().catch((error) => {
  find("lead").textContent = `The description could not be read: ${error.message}`;
});
