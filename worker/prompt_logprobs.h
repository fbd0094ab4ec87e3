// Prompt logprobs come from the engine chunk by chunk; routers want one message before the first
// tokens, with one entry a prompt token.
#pragma once

#include <vector>

#include "worker/messages.h"

namespace baton {

// Adds what one step computed to what earlier ones did. Positions come in order; those that a
// preempted prompt computes again are left out.
void AppendPromptLogprobs(std::vector<TokenOutput>* gathered, std::vector<TokenOutput> part);

// Sends them, headed by the prompt's first token, which has no logprob.
void SendPromptLogprobs(SessionId session, RequestKey key, TokenId prompt_start,
                        std::vector<TokenOutput> gathered, RouterPort& routers);

}  // namespace baton
