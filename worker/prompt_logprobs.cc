#include "worker/prompt_logprobs.h"

#include <utility>

namespace baton {

void AppendPromptLogprobs(std::vector<TokenOutput>* gathered, std::vector<TokenOutput> part) {
  const int32_t next = gathered->empty() ? 0 : gathered->back().index + 1;
  for (TokenOutput& token : part) {
    if (token.index >= next) gathered->push_back(std::move(token));
  }
}

void SendPromptLogprobs(SessionId session, RequestKey key, TokenId prompt_start,
                        std::vector<TokenOutput> gathered, RouterPort& routers) {
  if (gathered.empty() || gathered.front().index > 0) {
    gathered.insert(gathered.begin(), TokenOutput{.index = 0, .token = prompt_start});
  }
  routers.Send(session, {key, PromptLogprobsReply{std::move(gathered)}});
}

}  // namespace baton
