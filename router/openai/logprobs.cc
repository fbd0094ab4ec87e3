#include "router/openai/logprobs.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "router/front/utf8.h"
#include "router/openai/json_writer.h"

namespace baton {
namespace {

void AppendComma(bool& first, std::string& out) {
  if (!first) out += ',';
  first = false;
}

// {"piece": logprob}: the most likely tokens, and the chosen one if it is not among them. Two
// tokens may decode to the same piece; the likelier one keeps the key.
void AppendTopMap(const OutputToken& token, std::string& out) {
  std::vector<std::string_view> seen;
  bool first = true;
  const auto append = [&](std::string_view piece, float logprob) {
    if (std::find(seen.begin(), seen.end(), piece) != seen.end()) return;
    seen.push_back(piece);
    AppendComma(first, out);
    AppendJsonString(out, piece);
    out += ':';
    AppendFloat(out, logprob);
  };
  out += '{';
  for (const auto& [entry, piece] : token.top) append(piece, entry.logprob);
  append(token.piece, token.logprob);
  out += '}';
}

void AppendEntryHead(std::string_view piece, TokenId token, float logprob,
                     const Tokenizer& tokenizer, std::string& out) {
  out += "{\"token\":";
  AppendJsonString(out, piece);
  out += ",\"logprob\":";
  AppendFloat(out, logprob);
  out += ",\"bytes\":[";
  bool first = true;
  for (const char c : tokenizer.TokenBytes(token)) {
    AppendComma(first, out);
    AppendInt(out, static_cast<unsigned char>(c));
  }
  out += ']';
}

}  // namespace

void AppendCompletionLogprobs(std::span<const OutputToken> prompt,
                              std::span<const OutputToken> tokens, int64_t& text_offset,
                              std::string& out) {
  std::string pieces;
  std::string logprobs;
  std::string tops;
  std::string offsets;
  bool first = true;
  const auto append = [&](const OutputToken& token, bool known) {
    if (!first) {
      for (std::string* list : {&pieces, &logprobs, &tops, &offsets}) *list += ',';
    }
    first = false;
    AppendJsonString(pieces, token.piece);
    if (known) {
      AppendFloat(logprobs, token.logprob);
      AppendTopMap(token, tops);
    } else {
      logprobs += "null";
      tops += "null";
    }
    AppendInt(offsets, text_offset);
    text_offset += CountCodePoints(token.piece);
  };
  for (size_t i = 0; i < prompt.size(); ++i) append(prompt[i], /*known=*/i > 0);
  for (const OutputToken& token : tokens) append(token, /*known=*/true);
  out += "{\"tokens\":[" + pieces + "],\"token_logprobs\":[" + logprobs + "],\"top_logprobs\":[" +
         tops + "],\"text_offset\":[" + offsets + "]}";
}

void AppendChatLogprobs(std::span<const OutputToken> tokens, const Tokenizer& tokenizer,
                        std::string& out) {
  out += "{\"content\":[";
  bool first = true;
  for (const OutputToken& token : tokens) {
    AppendComma(first, out);
    AppendEntryHead(token.piece, token.token, token.logprob, tokenizer, out);
    out += ",\"top_logprobs\":[";
    bool first_top = true;
    for (const auto& [entry, piece] : token.top) {
      AppendComma(first_top, out);
      AppendEntryHead(piece, entry.token, entry.logprob, tokenizer, out);
      out += '}';
    }
    out += "]}";
  }
  out += "]}";
}

}  // namespace baton
