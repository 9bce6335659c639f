// The referee of GraphQL over HTTP: every audit of its suite, by name where one fails.
import { auditServer } from "graphql-http";
import { expect, url } from "./expect.mjs";

const results = await auditServer({ url });
for (const { id, name, status, reason } of results) expect(status, "ok", `${id} ${name}: ${reason}`);
expect(results.length, 61, "number of audits");
