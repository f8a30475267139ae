// The npm packages that people use, against the endpoint whose address is in the arguments.

import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const root = process.argv[2];
const openai = new OpenAI({ baseURL: `${root}/v1`, apiKey: "not-needed", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: root, apiKey: "not-needed", maxRetries: 0 });
const model = (await openai.models.list()).data[0].id;
const messages = [{ role: "user", content: "What is the capital of France?" }];
const Answer = z.object({ city: z.enum(["Paris", "Rome"]), population: z.number().int() });
const Weather = z.object({ city: z.enum(["Paris", "Rome"]) });

const checks = {
  async "chat: the whole answer and the stream are the same"() {
    const whole = await openai.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0 });
    assert.ok(whole.choices[0].message.content.length > 0);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
    const stream = await openai.chat.completions.create({
      model, messages, max_tokens: 12, temperature: 0, stream: true, stream_options: { include_usage: true },
    });
    let text = "";
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async "chat: parse gives what the zod schema says"() {
    const answer = await openai.chat.completions.parse({
      model, messages, temperature: 0, response_format: zodResponseFormat(Answer, "answer"),
    });
    Answer.parse(answer.choices[0].message.parsed);
  },

  async "chat: a required tool is called, streamed and read by the helper"() {
    const tools = [zodFunction({ name: "get_weather", parameters: Weather })];
    const whole = await openai.chat.completions.parse({
      model, messages, tools, tool_choice: "required", temperature: 0,
    });
    assert.equal(whole.choices[0].finish_reason, "tool_calls");
    Weather.parse(whole.choices[0].message.tool_calls[0].function.parsed_arguments);
    const stream = openai.chat.completions.stream({
      model, messages, tools, tool_choice: { type: "function", function: { name: "get_weather" } },
    });
    const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
    Weather.parse(JSON.parse(call.function.arguments));
  },

  async "embeddings are numbers of length one"() {
    const answer = await openai.embeddings.create({ model, input: ["one", "two"] });
    const [vector] = answer.data.map((entry) => entry.embedding);
    assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-4);
  },

  async "completions continue a text"() {
    const answer = await openai.completions.create({ model, prompt: "1, 2, 3,", max_tokens: 4, temperature: 0 });
    assert.match(answer.choices[0].text, /4/);
  },

  async "responses: whole, stored, streamed, parsed"() {
    const first = await openai.responses.create({ model, input: "Hello", max_output_tokens: 8 });
    assert.ok(first.output_text.length > 0);
    const next = await openai.responses.create({
      model, input: "And?", max_output_tokens: 8, previous_response_id: first.id,
    });
    assert.ok(next.usage.input_tokens > first.usage.input_tokens);
    await openai.responses.delete(first.id);
    await assert.rejects(openai.responses.retrieve(first.id), OpenAI.NotFoundError);
    const stream = openai.responses.stream({ model, input: "Hello", max_output_tokens: 8 });
    let text = "";
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    assert.equal(text, (await stream.finalResponse()).output_text);
    const parsed = await openai.responses.parse({
      model, input: "The capital of France?", text: { format: zodTextFormat(Answer, "answer") },
    });
    Answer.parse(parsed.output_parsed);
  },

  async "errors are the classes that the package knows"() {
    await assert.rejects(
      openai.chat.completions.create({ model: "no-such-model", messages }), OpenAI.NotFoundError);
    await assert.rejects(
      openai.chat.completions.create({ model, messages, temperature: -1 }), OpenAI.BadRequestError);
  },

  async "a stream that is left frees its slot"() {
    const stream = await openai.chat.completions.create({
      model, messages, max_tokens: 900, ignore_eos: true, stream: true,
    });
    for await (const chunk of stream) if (chunk.choices[0]?.delta?.content) break;
    for (let tries = 0; tries < 50; tries += 1) {
      const health = await (await fetch(`${root}/health`)).json();
      if (health.running === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    assert.fail("the slot was not freed within 2 s");
  },

  async "anthropic: messages, streams and tools"() {
    const whole = await anthropic.messages.create({ model, max_tokens: 12, messages, temperature: 0 });
    assert.equal(whole.role, "assistant");
    const stream = anthropic.messages.stream({ model, max_tokens: 12, messages, temperature: 0 });
    let text = "";
    stream.on("text", (delta) => (text += delta));
    const final = await stream.finalMessage();
    assert.equal(text, whole.content[0].text);
    assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
    const counted = await anthropic.messages.countTokens({ model, messages });
    assert.equal(counted.input_tokens, whole.usage.input_tokens + (whole.usage.cache_read_input_tokens ?? 0));
    const used = await anthropic.messages.create({
      model, max_tokens: 100, messages, tool_choice: { type: "any" },
      tools: [{ name: "get_weather", input_schema: z.toJSONSchema(Weather) }],
    });
    assert.equal(used.stop_reason, "tool_use");
    Weather.parse(used.content.find((block) => block.type === "tool_use").input);
    await assert.rejects(
      anthropic.messages.create({ model: "no-such-model", max_tokens: 1, messages }), Anthropic.NotFoundError);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}\n${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
